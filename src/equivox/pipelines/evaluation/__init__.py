"""The parts of `equivox evaluate`; `pipelines.evaluate` joins them."""
