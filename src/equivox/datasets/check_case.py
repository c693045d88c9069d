"""Look at the files of one case: what they hold, and what is wrong with them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

from equivox.datasets.cohort import Case, CohortConfig
from equivox.datasets.label_values import count_values
from equivox.datasets.wording import times
from equivox.errors import InputError
from equivox.volume import Grid, Volume, axis_codes, read_label_map, read_volume, reorient

Tier = Literal["error", "repairable", "note"]
Repair = Literal["copy_geometry", "turn_axes"]

QUANTILES = np.linspace(0, 1, 201)
"""The quantiles of the intensities that are kept of each image; pooled, they describe the cohort."""

# An image is sampled evenly down to about so many voxels before its quantiles are taken.
_SAMPLE = 200_000
# Smaller or larger voxel sides, in millimetres, hardly come from a clinical scanner.
_PLAUSIBLE_MM = (0.05, 20.0)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a cohort.

    Attributes:
        tier: ``error`` must be mended by the user, ``repairable`` by `--fix`, ``note`` is worth knowing.
        file: What it is about: a file, or the table.
        what: What is wrong.
        todo: What to do.
        case_id: None where it is about the whole cohort.
        column: The column of `cohort.csv` that names the file, where there is one.
        repair: How `--fix` mends it.
    """

    tier: Tier
    file: str
    what: str
    todo: str
    case_id: str | None = None
    column: str | None = None
    repair: Repair | None = None

    @property
    def line(self) -> str:
        """The problem on one line."""
        return f"{self.file}: {self.what}; {self.todo}"

    def to_json(self) -> dict[str, Any]:
        """Return the problem as plain values."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class ImageFindings:
    """What one image holds.

    Attributes:
        path: The file.
        grid: Shape and place.
        components: 1 for a scalar image, 3 for a colour picture.
        dimensions: 2 or 3.
        spacing_known: False for a picture.
        quantiles: Of the values, at `QUANTILES`.
        content: A hash of the voxel values, the same for a copy that was compressed anew.
    """

    path: Path
    grid: Grid
    components: int
    dimensions: int
    spacing_known: bool
    quantiles: Float[np.ndarray, " quantiles"]
    content: str

    @property
    def constant(self) -> bool:
        """Whether all voxels have one value."""
        return bool(self.quantiles[0] == self.quantiles[-1])


@dataclass(frozen=True, eq=False)
class LabelFindings:
    """What one label map holds.

    Attributes:
        path: The file.
        grid: Shape and place.
        spacing_known: False for a picture.
        values: Value -> voxels.
        content: A hash of the voxel values.
    """

    path: Path
    grid: Grid
    spacing_known: bool
    values: Mapping[int, int]
    content: str

    @property
    def empty(self) -> bool:
        """Whether there is nothing but background."""
        return set(self.values) <= {0}


@dataclass(frozen=True, eq=False)
class CaseFindings:
    """What the files of one case hold.

    Attributes:
        case: The case.
        images: Channel -> findings; unreadable ones are missing.
        labels: Rater -> findings; unreadable ones are missing.
        problems: What is wrong with this case by itself.
    """

    case: Case
    images: Mapping[str, ImageFindings]
    labels: Mapping[str, LabelFindings]
    problems: tuple[Problem, ...] = field(default=())

    def class_voxels(self, config: CohortConfig, rater: str | None = None) -> dict[str, int] | None:
        """Return class -> voxels in the label of one rater (the first where None); None where there is none."""
        if not self.labels:
            return None
        label = next(iter(self.labels.values())) if rater is None else self.labels[rater]
        voxels = dict.fromkeys(config.classes, 0)
        for value, count in label.values.items():
            name = config.label_values.get(value)
            if name in voxels:
                voxels[name] += count
        return voxels


def examine_case(job: tuple[Case, CohortConfig]) -> CaseFindings:
    """Read all files of a case and list what is wrong with them.

    Args:
        job: The case, and the configuration of its cohort; one argument, as it runs in worker processes.
    """
    case, config = job
    images: dict[str, ImageFindings] = {}
    labels: dict[str, LabelFindings] = {}
    problems: list[Problem] = []
    for channel, path in case.images.items():
        about = _About(case.case_id, f"image:{channel}", path)
        volume = _read(read_volume, about, problems)
        if volume is not None:
            images[channel] = _image_findings(path, volume)
            problems += _image_problems(about, images[channel], config, channel)
            problems += _repair_notes(about, volume)
    problems += _channel_problems(case, images, config)
    for rater, path in case.labels.items():
        about = _About(case.case_id, f"label:{rater}" if rater else "label", path)
        volume = _read(read_label_map, about, problems)
        if volume is not None:
            labels[rater] = _label_findings(path, volume)
            problems += _repair_notes(about, volume)
            problems += _value_problems(about, labels[rater], config)
            problems += _label_geometry_problems(about, volume, images, config)
    return CaseFindings(case, images, labels, tuple(problems))


@dataclass(frozen=True)
class _About:
    """The file that a problem is about."""

    case_id: str
    column: str
    path: Path

    def problem(self, tier: Tier, what: str, todo: str, repair: Repair | None = None) -> Problem:
        return Problem(tier, str(self.path), what, todo, self.case_id, self.column, repair)


def _read(reader: Any, about: _About, problems: list[Problem]) -> Volume | None:
    if not about.path.exists():
        problems.append(about.problem("error", f"no such file ({about.column})", "check the path in cohort.csv"))
        return None
    try:
        volume: Volume = reader(about.path)
    except (InputError, OSError) as error:
        problems.append(problem_of_error(about.path, str(error), about.case_id, about.column))
        return None
    except Exception as error:  # noqa: BLE001 - whatever a broken file raises, the other files are still looked at
        what = f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"
        problems.append(about.problem("error", what, "copy or export it again"))
        return None
    return volume


def _repair_notes(about: _About, volume: Volume) -> list[Problem]:
    todo = "nothing, if that is right: the file is mended so whenever it is read"
    return [about.problem("note", repair, todo) for repair in volume.repairs]


def problem_of_error(path: Path, message: str, case_id: str | None = None, column: str | None = None) -> Problem:
    """Turn a reader's line ``<file>: <what>; <what to do>`` into a problem."""
    text = " ".join(message.split()).removeprefix(f"{path}: ")
    what, separator, todo = text.rpartition("; ")
    if not separator:
        what, todo = text, "copy or export the file again"
    return Problem("error", str(path), what, todo, case_id, column)


def _image_findings(path: Path, volume: Volume) -> ImageFindings:
    array = volume.array
    values = array.ravel()
    sample = np.sort(values[:: max(1, values.size // _SAMPLE)])
    quantiles = sample[np.rint(QUANTILES * (sample.size - 1)).astype(int)].astype(np.float64)
    # The sample must not miss the ends: a constant image and the range of a CT are told by them.
    quantiles[0], quantiles[-1] = values.min(), values.max()
    return ImageFindings(
        path=path,
        grid=volume.grid,
        components=int(array.shape[0]),
        dimensions=volume.dimensions,
        spacing_known=volume.spacing_known,
        quantiles=quantiles,
        content=_hash(array),
    )


def _label_findings(path: Path, volume: Volume) -> LabelFindings:
    array = volume.array[0]
    return LabelFindings(path, volume.grid, volume.spacing_known, count_values(array), _hash(array))


def _hash(array: Shaped[np.ndarray, "*shape"]) -> str:
    """Hash shape and values; the readers choose the dtype by the values, so storage and compression do not count."""
    digest = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    # Slab by slab: one slab at a time is copied into C order, whatever the order of the array.
    for slab in np.moveaxis(array, -1, 0):
        digest.update(np.ascontiguousarray(slab).data)
    return digest.hexdigest()


def _image_problems(about: _About, image: ImageFindings, config: CohortConfig, channel: str) -> list[Problem]:
    problems = []
    low, high = image.quantiles[0], image.quantiles[-1]
    if image.constant:
        what = f"every voxel is {low:g}"
        problems.append(about.problem("error", what, "export the image again, or remove the case"))
    elif config.channels[channel].modality == "CT" and low >= 0:
        what = f"declared CT, but the values are {low:g} to {high:g}: not in HU?"
        problems.append(about.problem("note", what, "export it with its rescale slope, or change the modality"))
    return problems + _spacing_problems(about, image, config)


def _spacing_problems(about: _About, image: ImageFindings, config: CohortConfig) -> list[Problem]:
    if config.nominal_spacing:
        return []
    if not image.spacing_known:
        todo = "set nominal_spacing: true in cohort.yaml, or convert it to a format that holds the voxel size"
        return [about.problem("error", "the voxel size is unknown, but the cohort claims real ones", todo)]
    sides = image.grid.spacing_mm[: image.dimensions]
    if min(sides) < _PLAUSIBLE_MM[0] or max(sides) > _PLAUSIBLE_MM[1]:
        what = f"voxels of {times(sides)} mm are implausible"
        return [about.problem("note", what, "check the unit, or set nominal_spacing: true in cohort.yaml")]
    return []


def _channel_problems(case: Case, images: Mapping[str, ImageFindings], config: CohortConfig) -> list[Problem]:
    """Compare each channel with the first one."""
    if not images:
        return []
    first, *others = images
    reference = images[first]
    problems = []
    for channel in others:
        image = images[channel]
        about = _About(case.case_id, f"image:{channel}", image.path)
        known = reference.spacing_known and image.spacing_known
        if image.content == reference.content:
            problems.append(about.problem("note", f"the same voxels as channel '{first}'", "check that it is no copy"))
        if known and image.grid.matches(reference.grid):
            continue
        if not known and image.grid.shape == reference.grid.shape:
            continue
        if known and overlap(image.grid, reference.grid):
            one, other = (describe_grid(grid, nominal=config.nominal_spacing) for grid in (image.grid, reference.grid))
            what = f"grid {one} differs from {other} of channel '{first}'"
            todo = f"nothing: it is resampled onto '{first}' when cases are prepared"
            problems.append(about.problem("note", what, todo))
        else:
            what = f"shares no space with channel '{first}' ({reference.path})"
            problems.append(about.problem("error", what, "check that both are of one patient, and their headers"))
    return problems


def _value_problems(about: _About, label: LabelFindings, config: CohortConfig) -> list[Problem]:
    unlisted = {value: count for value, count in label.values.items() if value and value not in config.label_values}
    if unlisted:
        listed = ", ".join(f"{value} ({count} voxels)" for value, count in list(unlisted.items())[:5])
        more = f" and {len(unlisted) - 5} more values" if len(unlisted) > 5 else ""
        todo = "add the value to label_values in cohort.yaml (a class, or background), or mend the label"
        return [about.problem("error", f"holds values that are not listed: {listed}{more}", todo)]
    if label.empty:
        return [about.problem("note", "nothing is marked in this label", "check that it is meant to be empty")]
    return []


def _label_geometry_problems(
    about: _About, label: Volume, images: Mapping[str, ImageFindings], config: CohortConfig
) -> list[Problem]:
    first = next(iter(config.channels))
    if first not in images:
        return []
    image, grid = images[first], label.grid
    if not (image.spacing_known and label.spacing_known):
        if grid.shape == image.grid.shape:
            return []
        what = f"{times(grid.shape)} voxels, but image '{first}' has {times(image.grid.shape)}"
        return [about.problem("error", what, "export the label on the grid of the image")]
    if grid.matches(image.grid):
        return []
    codes, wanted = axis_codes(grid.affine), axis_codes(image.grid.affine)
    if reorient(label, wanted).grid.matches(image.grid):
        what = f"same place as image '{first}', but its axes are {codes}, not {wanted}"
        return [about.problem("repairable", what, "--fix turns them in a copy, without loss", "turn_axes")]
    fitting = [name for name, other in images.items() if name != first and grid.matches(other.grid)]
    if fitting:
        what = f"lies on the grid of channel '{fitting[0]}', but '{first}' is the first channel"
        return [
            about.problem("error", what, f"put '{fitting[0]}' first in cohort.yaml, or take the label of '{first}'")
        ]
    if grid.shape != image.grid.shape:
        one, other = (describe_grid(each, nominal=config.nominal_spacing) for each in (grid, image.grid))
        what = f"grid {one} differs from {other} of image '{first}'"
        return [about.problem("error", what, "export the label on the grid of the image")]
    off = f"{describe_distance(grid, image.grid, nominal=config.nominal_spacing)} off image '{first}'"
    if codes == wanted or _says_nothing(grid):
        todo = "if it was drawn on that image, --fix copies the image's geometry into a copy of the label"
        return [about.problem("repairable", f"same shape, but its corners are {off}", todo, "copy_geometry")]
    what = f"same shape, but its axes point {codes}, not {wanted}, and its corners are {off}"
    return [about.problem("error", what, "export the label again: left and right may be swapped")]


def _says_nothing(grid: Grid) -> bool:
    """Tell whether an affine is what a program writes that knows of no place: no turn, and the origin at 0."""
    linear = np.abs(grid.affine[:3, :3])
    return bool(np.array_equal(linear, np.diag(np.diag(linear))) and not grid.affine[:3, 3].any())


def overlap(one: Grid, other: Grid) -> bool:
    """Tell whether the boxes around two grids, along the axes of the patient, share space."""
    lows, highs = [], []
    for grid in (one, other):
        corners = grid.corners_mm()
        # Corners are voxel centres: the voxels reach half a side further.
        half = np.abs(grid.affine[:3, :3]).sum(axis=1) / 2
        lows.append(corners.min(axis=0) - half)
        highs.append(corners.max(axis=0) + half)
    return bool((np.maximum(*lows) < np.minimum(*highs)).all())


def describe_grid(grid: Grid, *, nominal: bool) -> str:
    """Write a grid as text: ``256 x 256 x 20 of 1 x 1 x 5 mm``, without the unit where voxel sizes are nominal."""
    return f"{times(grid.shape)} of {times(grid.spacing_mm)}" + ("" if nominal else " mm")


def describe_distance(one: Grid, other: Grid, *, nominal: bool) -> str:
    """Write how far the corners of two grids of one shape lie apart: in voxels where voxel sizes are nominal."""
    distance = one.distance_mm(other)
    return f"{distance / min(other.spacing_mm):.3g} voxels" if nominal else f"{distance:.3g} mm"
