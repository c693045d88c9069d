"""How many pieces, tunnels and cavities a mask has: its Betti numbers."""

from typing import Final, Literal, get_args

import cc3d
import numpy as np
from jaxtyping import Bool, Integer

from equivox.errors import InputError
from equivox.metrics.masks.mask_pair import cropped_pair, without_flat_axis

Connectivity = Literal["full", "face"]
"""Which voxels of a mask touch; see `CONNECTIVITIES`."""

CONNECTIVITIES: Final[dict[Connectivity, str]] = {
    "full": (
        "Voxels of the mask touch across faces, edges and corners (26 neighbours, 8 in 2D); those of the background "
        "across faces alone (6, 4 in 2D). Each voxel is a closed cube: the T-construction of a cubical complex."
    ),
    "face": (
        "Voxels of the mask touch across faces alone (6 neighbours, 4 in 2D); those of the background across edges "
        "and corners too (26, 8 in 2D). Each voxel is a point: the V-construction of a cubical complex."
    ),
}
"""Each connectivity in the words that a report prints."""

BettiNumbers = tuple[int, int, int]
"""One count for each dimension: 0 for pieces, 1 for tunnels (holes in 2D), 2 for cavities (none in 2D)."""


def betti_numbers(mask: Bool[np.ndarray, "..."], *, connectivity: Connectivity = "full") -> BettiNumbers:
    """Count the connected pieces of a mask, the tunnels through it and the cavities inside it.

    Outside the array there is background, all of it connected: what opens to the border encloses nothing. A ring in
    2D, and a tube or a handle in 3D, have one tunnel; a hollow ball has one cavity and no tunnel. An empty mask has
    (0, 0, 0).

    Args:
        mask: Two or three axes. One slice of three axes has the same numbers as the same mask in 2D.
        connectivity: Which voxels touch; see `CONNECTIVITIES`.

    Returns:
        Pieces, tunnels (in 2D: holes), cavities (in 2D: 0).

    Raises:
        InputError: If the mask is not a boolean array of two or three axes, or the connectivity is unknown.

    Example:
        Two pixels that touch at a corner.

        >>> pixels = np.eye(2, dtype=bool)
        >>> betti_numbers(pixels), betti_numbers(pixels, connectivity="face")
        ((1, 0, 0), (2, 0, 0))

    References:
        Kong and Rosenfeld, "Digital topology: introduction and survey", CVGIP 1989.
    """
    check_connectivity(connectivity)
    padded = np.pad(without_flat_axis(mask), 1)
    if not padded.any():
        return (0, 0, 0)
    pieces = labelled(padded, connectivity)[1]
    enclosed = labelled(~padded, opposite(connectivity))[1] - 1
    if padded.ndim == 2:
        return (pieces, enclosed, 0)
    from skimage.measure import euler_number

    # Euler characteristic = pieces - tunnels + cavities.
    euler = int(euler_number(padded, connectivity=3 if connectivity == "full" else 1))
    return (pieces, pieces + enclosed - euler, enclosed)


def betti_number_errors(
    reference: Bool[np.ndarray, "..."], prediction: Bool[np.ndarray, "..."], *, connectivity: Connectivity = "full"
) -> BettiNumbers:
    """Return how far the Betti numbers of two masks lie apart, in each dimension.

    Only numbers are compared, not places: a missed piece and an invented one cancel. Defined for empty masks, which
    have (0, 0, 0).

    Args:
        reference: Two or three axes.
        prediction: Of the same shape.
        connectivity: Which voxels touch; see `CONNECTIVITIES`.

    Raises:
        InputError: If the masks are not boolean arrays of one shape, or the connectivity is unknown.

    Example:
        >>> ring = np.pad(np.zeros((1, 1), dtype=bool), 1, constant_values=True)
        >>> betti_number_errors(ring, np.zeros((3, 3), dtype=bool))
        (1, 1, 0)

    References:
        Clough et al., "A topological loss function for deep-learning based image segmentation using persistent
        homology", IEEE TPAMI 2022 (https://arxiv.org/abs/1910.01877).
    """
    first, second = (betti_numbers(mask, connectivity=connectivity) for mask in cropped_pair(reference, prediction))
    return (abs(first[0] - second[0]), abs(first[1] - second[1]), abs(first[2] - second[2]))


def labelled(mask: Bool[np.ndarray, "..."], connectivity: Connectivity) -> tuple[Integer[np.ndarray, "..."], int]:
    """Number the connected pieces of a mask from 1 in the order of their first voxels; return also how many there are.

    Example:
        >>> labelled(np.eye(2, dtype=bool), "face")[1]
        2
    """
    across_all, across_faces = (26, 6) if mask.ndim == 3 else (8, 4)
    neighbours = across_all if connectivity == "full" else across_faces
    labels, count = cc3d.connected_components(mask, connectivity=neighbours, return_N=True)
    return labels, int(count)


def opposite(connectivity: Connectivity) -> Connectivity:
    """Return how the background of a mask of this connectivity is connected."""
    return "face" if connectivity == "full" else "full"


def check_connectivity(connectivity: str) -> None:
    """Refuse a connectivity that does not exist.

    Raises:
        InputError: If `connectivity` is not a key of `CONNECTIVITIES`.
    """
    known = get_args(Connectivity)
    if connectivity not in known:
        msg = f"connectivity: expected one of {', '.join(known)}, got '{connectivity}'; choose one of them"
        raise InputError(msg)
