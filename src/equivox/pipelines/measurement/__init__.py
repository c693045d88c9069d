"""The parts of `equivox measure`: what there is to measure, one case, and the tables over patients."""
