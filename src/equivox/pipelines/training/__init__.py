"""The parts of `equivox train`; `pipelines.train` joins them."""
