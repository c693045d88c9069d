"""Equivox: medical image segmentation with an honest report for every group of patients."""

__version__ = "0.1.0"
