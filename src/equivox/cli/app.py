"""The command `equivox`."""
