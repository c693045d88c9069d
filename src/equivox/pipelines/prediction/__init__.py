"""The parts of `equivox predict`; `pipelines.predict` joins them."""
