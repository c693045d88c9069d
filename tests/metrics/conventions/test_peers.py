"""The conventions against the tools themselves, as they are installed."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from equivox.metrics.conventions.case_values import BACKGROUND, reported_values
from equivox.metrics.conventions.catalog import CONVENTIONS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import monai.metrics
    import surface_distance
    from medpy.metric import binary as medpy
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:the (ground truth|prediction) of class:UserWarning"),
]

CLASSES = {"organ": 1, "lesion": 2}
TOLERANCE = 1.6
SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.3, 2.1)]


def random_maps(shape: tuple[int, ...], seed: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Speckles of two classes, many of them at the border."""
    generator = np.random.default_rng(seed)
    shares = [1 - share, share / 2, share / 2]
    return tuple(generator.choice(3, shape, p=shares).astype(np.uint8) for _ in range(2))


def boxes(shape: tuple[int, ...], *places: tuple[int, tuple[slice, ...]]) -> np.ndarray:
    labels = np.zeros(shape, dtype=np.uint8)
    for value, place in places:
        labels[place] = value
    return labels


VOLUME, IMAGE = (9, 11, 7), (13, 9, 1)
MAPS = {
    "dense": random_maps(VOLUME, 0, 0.5),
    "sparse": random_maps((15, 12, 10), 1, 0.02),
    "image": random_maps(IMAGE, 2, 0.2),
    "at the border": (
        boxes(VOLUME, (1, np.s_[:5, :, :3]), (2, np.s_[6:, 2:7, 1:])),
        boxes(VOLUME, (1, np.s_[:4, 1:, :4]), (2, np.s_[5:, 3:8, 2:])),
    ),
    "one voxel": (
        boxes(VOLUME, (1, np.s_[0, 0, 0]), (2, np.s_[2:6, 3:9, 2:5])),
        boxes(VOLUME, (1, np.s_[8, 10, 6]), (2, np.s_[3, 4, 3])),
    ),
    "filled": (np.full(VOLUME, 1, np.uint8), boxes(VOLUME, (1, np.s_[1:8, 2:, :]), (2, np.s_[0, 0, 0]))),
}
NOTHING, SOMETHING = np.zeros(VOLUME, np.uint8), boxes(VOLUME, (1, np.s_[2:5, 3:6, 1:3]))
EMPTIES = {
    "missed": (SOMETHING, NOTHING),
    "false positive": (NOTHING, SOMETHING),
    "both empty": (NOTHING, NOTHING),
    "one slice missed": (SOMETHING[:, :, 1:2], NOTHING[:, :, :1]),
}
ALL = MAPS | EMPTIES


def ours(tool: str, case: str, spacing: tuple[float, ...]) -> dict[tuple[str, str], float | None]:
    values = reported_values(*ALL[case], classes=CLASSES, spacing_mm=spacing, tolerance_mm=TOLERANCE, tools=(tool,))
    return {(value.class_name, value.metric): value.value for value in values}


def masks_of(case: str, spacing: tuple[float, ...], index: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Return reference, prediction and spacing without the axis of a single slice."""
    reference, prediction = (labels.squeeze() == index for labels in ALL[case])
    return reference, prediction, list(spacing[: reference.ndim])


def assert_same(found: float | None, expected: float | None, what: Any) -> None:
    if found is None or expected is None:
        assert found is expected, what
    else:
        assert found == pytest.approx(expected, rel=2e-6, abs=1e-7, nan_ok=True), what


@pytest.mark.parametrize("case", ALL)
def test_nnunet_reports_what_its_evaluator_computes(case: str) -> None:
    class Arrays:
        def read_seg(self, place: str) -> tuple[np.ndarray, dict]:
            return ALL[case][place == "prediction"][None].astype(np.int16), {}

    theirs = compute_metrics("reference", "prediction", Arrays(), list(CLASSES.values()))["metrics"]
    values = ours("nnunet", case, (1.0, 1.0, 3.0))
    assert set(values) == {(name, metric) for name in CLASSES for metric in ("dice", "iou")}
    for name, index in CLASSES.items():
        assert_same(values[name, "dice"], theirs[index]["Dice"], name)
        assert_same(values[name, "iou"], theirs[index]["IoU"], name)


def one_hot(labels: np.ndarray, classes: int = 3) -> torch.Tensor:
    return torch.stack([torch.from_numpy(labels.squeeze() == index) for index in range(classes)])[None]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("case", ALL)
def test_monai_reports_what_its_metrics_compute(case: str, spacing: tuple[float, ...]) -> None:
    reference, prediction = (one_hot(labels) for labels in ALL[case])
    place = {"spacing": list(spacing[: reference.ndim - 2])}
    metrics = {
        "dice": monai.metrics.DiceMetric(),
        "iou": monai.metrics.MeanIoU(),
        "nsd": monai.metrics.SurfaceDiceMetric([TOLERANCE] * len(CLASSES)),
        "hd95": monai.metrics.HausdorffDistanceMetric(percentile=95),
        "hd": monai.metrics.HausdorffDistanceMetric(),
        "assd": monai.metrics.SurfaceDistanceMetric(symmetric=True),
        "asd": monai.metrics.SurfaceDistanceMetric(),
    }
    values = ours("monai", case, spacing)
    assert {metric for _, metric in values} == set(metrics) == set(CONVENTIONS["monai"].metrics)
    for key, metric in metrics.items():
        options = {} if key in ("dice", "iou") else place
        theirs = metric(prediction.float(), reference.float(), **options)[0].tolist()
        names = [BACKGROUND, *CLASSES] if len(theirs) == 3 else list(CLASSES)
        assert [name for name, other in values if other == key] == [*CLASSES, *({BACKGROUND} & set(names))]
        for name, expected in zip(names, theirs, strict=True):
            assert_same(values[name, key], expected, (name, key))


def medpy_value(function: Any, prediction: np.ndarray, reference: np.ndarray, **options: Any) -> float | None:
    try:
        return float(function(prediction, reference, **options))
    except RuntimeError:
        return None


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("case", ALL)
def test_medpy_reports_what_its_functions_compute(case: str, spacing: tuple[float, ...]) -> None:
    values = ours("medpy", case, spacing)
    functions = {"hd95": medpy.hd95, "hd": medpy.hd, "assd": medpy.assd, "asd": medpy.asd}
    for name, index in CLASSES.items():
        reference, prediction, sides = masks_of(case, spacing, index)
        expected = {"dice": float(medpy.dc(prediction, reference)), "iou": medpy.jc(prediction, reference)}
        for key, function in functions.items():
            expected[key] = medpy_value(function, prediction, reference, voxelspacing=sides)
        if not reference.any() and not prediction.any():
            # As NumPy from 2.3 on makes it; before, a zero count was a plain integer and Dice 1.
            expected["dice"] = math.nan
        for key, value in expected.items():
            assert_same(values[name, key], value, (name, key))
    assert {metric for _, metric in values} == set(CONVENTIONS["medpy"].metrics)


@pytest.fixture
def old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give NumPy the names that version 0.1 of surface-distance asks for."""
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    monkeypatch.setattr(np, "NaN", np.nan, raising=False)


@pytest.mark.usefixtures("old_names")
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("case", ALL)
def test_surface_distance_reports_what_its_functions_compute(case: str, spacing: tuple[float, ...]) -> None:
    values = ours("surface-distance", case, spacing)
    for name, index in CLASSES.items():
        reference, prediction, sides = masks_of(case, spacing, index)
        table = surface_distance.compute_surface_distances(reference, prediction, sides)
        expected = {
            "dice": surface_distance.compute_dice_coefficient(reference, prediction),
            "nsd": surface_distance.compute_surface_dice_at_tolerance(table, TOLERANCE),
            "hd95": surface_distance.compute_robust_hausdorff(table, 95),
            "hd": surface_distance.compute_robust_hausdorff(table, 100),
            "masd": sum(surface_distance.compute_average_surface_distance(table)) / 2,
        }
        for key, value in expected.items():
            assert_same(values[name, key], float(value), (name, key))
    assert {metric for _, metric in values} == set(CONVENTIONS["surface-distance"].metrics)


@pytest.mark.parametrize("case", MAPS)
def test_fairseg_takes_medpy_in_pixels_and_monai_at_five(case: str) -> None:
    values = ours("fairseg", case, (0.7, 1.3, 2.1))
    for name, index in CLASSES.items():
        reference, prediction, _ = masks_of(case, (1.0, 1.0, 1.0), index)
        if not (reference.any() and prediction.any()):
            continue
        assert_same(values[name, "dice"], float(medpy.dc(prediction, reference)), name)
        assert_same(values[name, "iou"], medpy.jc(prediction, reference), name)
        assert_same(values[name, "hd95"], float(medpy.hd95(prediction, reference)), name)
        assert_same(values[name, "asd"], float(medpy.asd(prediction, reference)), name)
        pair = [torch.from_numpy(mask)[None, None] for mask in (reference, prediction)]
        nsd = monai.metrics.compute_surface_dice(*pair, class_thresholds=[5])
        assert_same(values[name, "nsd"], float(nsd), name)


@pytest.mark.parametrize(
    ("case", "dice", "hd95", "nsd"),
    [("missed", 0.0, 0.0, 0.0), ("false positive", 1.0, 0.0, 0.0), ("both empty", 0.0, 0.0, math.nan)],
)
def test_fairseg_puts_numbers_in_place_of_empty_masks(case: str, dice: float, hd95: float, nsd: float) -> None:
    values = ours("fairseg", case, (0.7, 1.3, 2.1))
    assert (values["organ", "dice"], values["organ", "iou"], values["organ", "hd95"]) == (dice, dice, hd95)
    assert_same(values["organ", "nsd"], nsd, "nsd")


@pytest.mark.skipif(np.__version__.startswith("1."), reason="NumPy 1 has the old names")
def test_without_old_names_surface_distance_stops_where_a_mask_is_missed() -> None:
    # What the rules say of version 0.1: should a newer one be installed, they have to be written anew.
    with pytest.raises(AttributeError, match=r"np\.Inf"):
        surface_distance.compute_surface_distances(SOMETHING == 1, NOTHING == 1, (1.0, 1.0, 3.0))
