"""Cohorts, checks, splits, plans, the preprocessed store and patches."""
