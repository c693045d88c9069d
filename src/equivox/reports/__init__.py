"""The HTML report, its plots and its overlays."""

from equivox.reports.overlay import OverlayCase
from equivox.reports.page import write_report

__all__ = ["OverlayCase", "write_report"]
