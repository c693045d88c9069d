"""The parts of `equivox compare`: reading evaluations, matching them, the tests, the answers and the methods."""
