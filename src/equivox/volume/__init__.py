"""The ground floor: volumes, their grids, and how to read, write, turn and resample them."""

from equivox.volume.grid import Grid
from equivox.volume.labels import write_label_map
from equivox.volume.orientation import axis_codes, reorient
from equivox.volume.reading import read_grid, read_label_map, read_volume
from equivox.volume.volume import Volume
from equivox.volume.writing import write_volume

__all__ = [
    "Grid",
    "Volume",
    "axis_codes",
    "read_grid",
    "read_label_map",
    "read_volume",
    "reorient",
    "write_label_map",
    "write_volume",
]
