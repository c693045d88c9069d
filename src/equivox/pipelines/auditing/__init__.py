"""The parts of `equivox audit`: who is held out, features and controls, probes, and the erasure test."""
