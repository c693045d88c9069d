"""Metrics of one case, and the statistics over patients and groups."""
