"""The HTML report, its plots and its overlays."""
