"""The parts of `equivox evaluate-landmarks`: pairing two tables, measuring the cases, and the tables over patients."""
