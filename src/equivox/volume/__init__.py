"""The ground floor: volumes, their grids, and how to read, write and resample them."""

from equivox.volume.grid import Grid
from equivox.volume.volume import Volume

__all__ = ["Grid", "Volume"]
