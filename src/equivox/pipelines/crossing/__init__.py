"""The parts of `equivox cross-site`: the sites, their training pools, what one model is worth, and the summary."""
