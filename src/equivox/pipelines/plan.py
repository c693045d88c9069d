"""Measure a cohort and decide how its scans are prepared and how large the network is."""

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import yaml

from equivox.atomic import write_text
from equivox.datasets.cohort import Cohort, Modality
from equivox.datasets.measure import CaseMeasures, MeasureTask, measure_case
from equivox.datasets.plan import PLAN_NAME, IntensityPlan, NetworkPlan, Plan, PreprocessingPlan, load_plan
from equivox.datasets.sizing import size_network
from equivox.datasets.transforms import check_transforms
from equivox.errors import InputError
from equivox.options import Options, override_options
from equivox.parallel import map_cases
from equivox.volume.resample import resized_shape

__all__ = [
    "cases_for_testing",
    "default_memory_gib",
    "load_plan",
    "make_plan",
    "plan_cohort",
    "warn_of_test_cases",
    "write_plan",
]

logger = logging.getLogger(__name__)

FEWEST_SLICES_3D = 16
"""A 3D network is planned where the median scan has this many voxels along every axis."""
LARGEST_PICTURE = 512
"""2D pictures without a voxel size are brought to a longer side of at most this many voxels."""
COARSE_RATIO = 3.0
"""A scan whose thickest axis is over 3 times its finest is anisotropic (nnU-Net's threshold)."""
TEST_CASES = "test_cases_not_looked_at"
"""Entry of a plan's `measured`: how many cases of the cohort were left out."""
_MOST_DEFAULT_GIB = 8.0
_SEAL = "# Written by 'equivox plan'; seal of what follows: "

_COMMENTS = {
    "cohort": "The cohort that this was measured on.",
    "classes": "Class -> index in label maps; 0 is background.",
    "nominal_spacing": "True: voxel sizes are not real, nothing is resampled by them or said in mm.",
    "left_right_pairs": "Classes that swap with left and right; mirroring along that axis is then off.",
    "preprocessing": "From files to prepared scans, in this order: turn, crop, scale values, resample.\n"
    "A change here makes 'equivox preprocess' prepare the cases anew.",
    "networks": "The size of the network and of what it sees at once. memory_mib: estimated peak of a training step.",
    "measured": "What the choices above rest on.",
}


def make_plan(
    cohort: Cohort,
    *,
    workers: int = 1,
    memory_gib: float | None = None,
    left_out: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Plan:
    """Measure the cohort and plan.

    Args:
        cohort: Its cases with images and labels.
        workers: Processes that measure.
        memory_gib: What a training step may take; by default half of the machine's memory, at most 8.
        left_out: Cases not to look at, such as the test set's.
        overrides: Assignments ``a.b=value``. Those of `preprocessing` count before the networks are sized.

    Raises:
        InputError: If a case cannot be measured (all such cases are named), none is left, or an override does not fit.
    """
    config = cohort.config
    components = {name: 3 for name, channel in config.channels.items() if channel.modality == "RGB"}
    cases = [case for case in cohort.cases if case.case_id not in set(left_out)]
    # Voxel sizes, patches and the axis of the slices are measured along the turned axes.
    orientation = _orientation(cohort, overrides)
    tasks = [
        MeasureTask(case.case_id, case.images, case.label, config.label_indices, components, orientation)
        for case in cases
    ]
    measures = _measure(tasks, workers)
    budget = memory_gib if memory_gib is not None else default_memory_gib()
    if not 0 < budget < math.inf:
        msg = f"--memory-gib: expected a number above 0, got {budget:g}; write for example 8"
        raise InputError(msg)
    draft = Plan(
        cohort=config.name,
        classes=dict(config.classes),
        nominal_spacing=config.nominal_spacing,
        left_right_pairs=config.left_right_pairs,
        preprocessing=_plan_preprocessing(cohort, measures, components, orientation),
        networks={},
    )
    early = [assignment for assignment in overrides if assignment.strip().startswith("preprocessing.")]
    draft = override_options(draft, early)
    preprocessing = draft.preprocessing
    check_transforms(preprocessing)
    measured = _summary(cohort, measures, preprocessing)
    networks = _plan_networks(preprocessing, measures, len(config.classes) + 1, budget)
    _warn_of_memory(networks, budget)
    plan = draft.model_copy(
        update={
            "networks": networks,
            "measured": {**measured, TEST_CASES: len(left_out), "memory_gib": budget},
        }
    )
    return override_options(plan, [assignment for assignment in overrides if assignment not in early])


def default_memory_gib() -> float:
    """Return half of the machine's memory in GiB, between 2 and 8: the rest is for data and for other programs."""
    half = psutil.virtual_memory().total / 2**30 / 2
    return float(round(min(max(half, 2.0), _MOST_DEFAULT_GIB), 1))


def plan_cohort(
    cohort: Cohort,
    *,
    workers: int = 1,
    memory_gib: float | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> Plan:
    """Plan a cohort as `make_plan` does, leaving its test cases alone, and write `plan.yaml`.

    Args:
        cohort: The cohort; its `split.csv` says which cases are for testing.
        workers: Processes that measure.
        memory_gib: What a training step may take.
        overrides: Assignments ``a.b=value``.
        overwrite: Replace a plan that was edited by hand.

    Raises:
        InputError: If the plan there was edited, or a case cannot be measured.
    """
    refuse_edited(cohort.folder / PLAN_NAME, overwrite=overwrite)
    left_out = cases_for_testing(cohort)
    plan = make_plan(cohort, workers=workers, memory_gib=memory_gib, left_out=left_out, overrides=overrides)
    write_plan(plan, cohort.folder / PLAN_NAME)
    return plan


def cases_for_testing(cohort: Cohort) -> list[str]:
    """Return all cases of the patients that `split.csv` keeps for testing; none where there is no split."""
    if not (cohort.folder / "split.csv").is_file():
        return []
    from equivox.datasets.split import load_split

    split = load_split(cohort.folder)
    patients = {case.patient_id for case in cohort.cases if split.get(case.case_id) == "test"}
    return [case.case_id for case in cohort.cases if case.patient_id in patients]


def warn_of_test_cases(cohort: Cohort, plan: Plan) -> None:
    """Say so where a plan was measured on cases that are for testing now, as one is that is older than the split."""
    looked_at = len(cases_for_testing(cohort)) - int(plan.measured.get(TEST_CASES, 0))
    if looked_at > 0:
        logger.warning(
            "%s: expected a plan measured without the test cases, got one measured with %d of them (it is older than "
            "the split); 'equivox plan %s' measures anew",
            cohort.folder / PLAN_NAME,
            looked_at,
            cohort.folder,
        )


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan as commented YAML, sealed so that an edit by hand is noticed."""
    body = "".join(_section(name, value) for name, value in plan.model_dump(mode="json", exclude_none=True).items())
    write_text(
        path, f"{_SEAL}{_seal(body)}\n# Edit it freely; 'equivox plan' then asks before it writes over it.\n{body}"
    )


def refuse_edited(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace a plan that somebody edited.

    Raises:
        InputError: If the file is there, is not as it was written, and `overwrite` is False.
    """
    if overwrite or not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    body = "".join(lines[2:])
    if not lines or lines[0].strip() != _SEAL + _seal(body):
        msg = (
            f"{path}: expected a plan as 'equivox plan' wrote it, got one edited by hand; keep it, or give --overwrite"
        )
        raise InputError(msg)


def _section(name: str, value: Any) -> str:
    comment = "".join(f"# {line}\n" for line in _COMMENTS[name].splitlines())
    text: str = yaml.dump({name: value}, Dumper=_FlowLists, sort_keys=False, allow_unicode=True, width=120)
    return f"\n{comment}{text}"


class _FlowLists(yaml.SafeDumper):
    """Writes lists of plain values in one line."""


def _represent_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    plain = not any(isinstance(value, dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)


_FlowLists.add_representer(list, _represent_list)


def _seal(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _measure(tasks: Sequence[MeasureTask], workers: int) -> list[CaseMeasures]:
    outcomes = map_cases(measure_case, tasks, workers=workers, description="Measuring")
    failed = [f"case '{outcome.item.case_id}': {outcome.error}" for outcome in outcomes if outcome.error]
    if failed:
        for line in failed[1:]:
            logger.error("%s", line)
        more = f" (and {len(failed) - 1} more, listed above)" if len(failed) > 1 else ""
        raise InputError(failed[0] + more)
    measures = [outcome.result for outcome in outcomes if outcome.result is not None]
    if not measures:
        msg = "cohort: expected cases to measure, got none outside the test set; add cases or split anew"
        raise InputError(msg)
    return measures


class _Turned(Options):
    """As much of a plan as says how scans are turned."""

    preprocessing: PreprocessingPlan


def _orientation(cohort: Cohort, overrides: Sequence[str]) -> str:
    """Return the axis codes that scans are to be turned to, before anything else of the plan is known."""
    channels = tuple(cohort.config.channels)
    draft = PreprocessingPlan(
        channels=channels,
        intensity=dict.fromkeys(channels, IntensityPlan(scheme="keep")),
        resample_channels=dict.fromkeys(channels, "same_grid"),
    )
    own = [one for one in overrides if one.strip().startswith("preprocessing.orientation=")]
    return override_options(_Turned(preprocessing=draft), own).preprocessing.orientation


def _plan_preprocessing(
    cohort: Cohort, measures: Sequence[CaseMeasures], components: dict[str, int], orientation: str
) -> PreprocessingPlan:
    channels = cohort.config.channels
    return PreprocessingPlan(
        channels=tuple(channels),
        orientation=orientation,
        spacing_mm=_target_spacing(measures, nominal=cohort.config.nominal_spacing),
        intensity={name: _intensity(channel.modality, name, measures) for name, channel in channels.items()},
        # Also where every scan measured has one grid: those of the test set were not looked at.
        resample_channels={
            name: "resample_to_reference" if place else "same_grid" for place, name in enumerate(channels)
        },
        components=components,
    )


def _target_spacing(
    measures: Sequence[CaseMeasures], *, nominal: bool
) -> tuple[float | None, float | None, float | None]:
    """The median along each axis; of the coarse axis of anisotropic cohorts the 10th percentile, as nnU-Net takes."""
    shape = np.median([case.shape for case in measures], axis=0)
    spacings = np.array([case.spacing_mm for case in measures])
    if shape[2] == 1 and np.all(spacings == 1):
        # Pictures: no voxel size is known. Very large ones are made smaller, so that a patch sees enough of them.
        factor = float(round(max(shape[:2].max() / LARGEST_PICTURE, 1.0), 3))
        return (factor, factor, None) if factor > 1 else (None, None, None)
    if nominal:
        return None, None, None
    target = np.median(spacings, axis=0)
    coarse = int(np.argmax(target))
    others = np.delete(target, coarse)
    few = shape[coarse] * COARSE_RATIO < np.delete(shape, coarse).min()
    if target[coarse] > COARSE_RATIO * others.max() and few:
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), others.max())
    i, j, k = (None if side == 1 else float(f"{step:.6g}") for side, step in zip(shape, target, strict=True))
    return i, j, k


def _intensity(modality: Modality, channel: str, measures: Sequence[CaseMeasures]) -> IntensityPlan:
    foreground = np.concatenate([case.channels[channel].foreground for case in measures])
    anywhere = np.concatenate([case.channels[channel].anywhere for case in measures])
    picture = all(case.shape[2] == 1 and case.channels[channel].eight_bit for case in measures)
    if modality == "CT":
        values = foreground if foreground.size else anywhere
        if values.size:
            low, high = (float(f"{edge:.6g}") for edge in np.percentile(values, (0.5, 99.5)))
            return IntensityPlan(scheme="clip_standardise", low=low, high=high, **_moments(values))
    if modality == "PET":
        return IntensityPlan(scheme="keep", std=_moments(anywhere)["std"])
    if modality in {"XR", "RGB", "OTHER"} and picture:
        return IntensityPlan(scheme="unit_range", **_moments(anywhere / 255))
    return IntensityPlan(scheme="standardise")


def _moments(values: np.ndarray) -> dict[str, float]:
    if values.size == 0:
        return {"mean": 0.0, "std": 1.0}
    std = float(values.std(dtype=np.float64))
    return {"mean": float(f"{values.mean(dtype=np.float64):.6g}"), "std": float(f"{std:.6g}") if std > 0 else 1.0}


def _plan_networks(
    preprocessing: PreprocessingPlan, measures: Sequence[CaseMeasures], classes: int, memory_gib: float
) -> dict[Literal["2d", "3d"], NetworkPlan]:
    shape, spacing = _median_prepared(preprocessing, measures)
    slice_axis = _slice_axis(shape, spacing, preprocessing)
    inplane = [axis for axis in range(3) if axis != slice_axis]
    fit: dict[str, Any] = {"in_channels": preprocessing.image_channels, "classes": classes, "memory_gib": memory_gib}
    networks: dict[Literal["2d", "3d"], NetworkPlan] = {
        "2d": size_network(
            2,
            shape=[shape[axis] for axis in inplane],
            spacing=[spacing[axis] for axis in inplane],
            slice_axis=slice_axis,
            **fit,
        )
    }
    if min(shape) >= FEWEST_SLICES_3D:
        networks["3d"] = size_network(3, shape=shape, spacing=spacing, slice_axis=slice_axis, **fit)
    return networks


def _warn_of_memory(networks: Mapping[Literal["2d", "3d"], NetworkPlan], memory_gib: float) -> None:
    """Say so where even the smallest network takes more than was asked for: it may still work, so it is planned."""
    for name, network in networks.items():
        if network.memory_mib > memory_gib * 1024:
            logger.warning(
                "--memory-gib %g: expected a %s network that trains in it, got %.1f GiB for the smallest there is; "
                "it is planned all the same: train it where that much is free",
                memory_gib,
                name,
                math.ceil(network.memory_mib / 102.4) / 10,
            )


def _median_prepared(
    preprocessing: PreprocessingPlan, measures: Sequence[CaseMeasures]
) -> tuple[list[float], list[float]]:
    """Median voxels of the prepared scans and their voxel sizes."""
    wanted = [
        tuple(
            own if goal is None else goal for own, goal in zip(case.spacing_mm, preprocessing.spacing_mm, strict=True)
        )
        for case in measures
    ]
    shapes = [
        resized_shape(case.cropped_shape, case.spacing_mm, goal) for case, goal in zip(measures, wanted, strict=True)
    ]
    return [float(side) for side in np.median(shapes, axis=0)], [float(step) for step in np.median(wanted, axis=0)]


def _slice_axis(shape: Sequence[float], spacing: Sequence[float], preprocessing: PreprocessingPlan) -> int:
    """The axis that slices were acquired across: the coarsest; where voxel sizes tell nothing, the shortest."""
    flat = [axis for axis in range(3) if shape[axis] == 1]
    if flat:
        return flat[-1]
    coarse = int(np.argmax(spacing))
    if None not in preprocessing.spacing_mm and spacing[coarse] > 1.2 * np.delete(spacing, coarse).max():
        return coarse
    short = int(np.argmin(shape))
    return short if shape[short] < 0.5 * np.delete(shape, short).min() else 2


def _summary(cohort: Cohort, measures: Sequence[CaseMeasures], preprocessing: PreprocessingPlan) -> dict[str, Any]:
    """What was measured, in plain values, for the reader of the plan."""
    spacings = np.array([case.spacing_mm for case in measures])
    shapes = np.array([case.shape for case in measures])
    cropped = np.array([case.cropped_shape for case in measures])
    classes = {
        name: {
            "cases_with_it": sum(index in case.class_voxels for case in measures),
            "median_voxels": int(np.median([case.class_voxels.get(index, 0) for case in measures])),
        }
        for name, index in cohort.config.classes.items()
    }
    prepared, _ = _median_prepared(preprocessing, measures)
    return {
        "cases": len(measures),
        "orientation": preprocessing.orientation,
        "shape": {name: _whole(row) for name, row in _spread(shapes).items()},
        "spacing_mm": {name: [float(f"{step:.4g}") for step in row] for name, row in _spread(spacings).items()},
        "share_left_by_crop": float(np.round(np.median(cropped.prod(axis=1) / shapes.prod(axis=1)), 3)),
        "median_prepared_shape": _whole(prepared),
        "cases_with_a_grid_of_their_own": {
            name: sum(case.channels[name].own_grid for case in measures) for name in cohort.config.channels
        },
        "modalities": {name: channel.modality for name, channel in cohort.config.channels.items()},
        "classes": classes,
    }


def _spread(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"smallest": rows.min(axis=0), "median": np.median(rows, axis=0), "largest": rows.max(axis=0)}


def _whole(row: Sequence[float] | np.ndarray) -> list[int]:
    return [round(float(value)) for value in row]
