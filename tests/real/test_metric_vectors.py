"""Our scores against those that MONAI, surface-distance and MedPy gave for stored masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equivox.metrics.masks.case_scores import ClassScores, score_case

pytestmark = pytest.mark.real

PAIRS = {
    "normal_pred_B_gt_A": ("A", "B"),
    "identical": ("A", "A"),
    "pred_empty": ("A", None),
    "gt_empty": (None, "A"),
    "both_empty": (None, None),
    "touching_border": ("edge", "edge2"),
    "full_vs_A": ("A", "full"),
}
DEFINED = ["normal_pred_B_gt_A", "identical", "touching_border", "full_vs_A"]


@pytest.fixture(scope="module")
def vectors(real_data: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    folder = real_data.parent / "vectors"
    with np.load(folder / "metrics.npz") as stored:
        masks = {name: stored[name] for name in stored.files}
    expected: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return masks, expected


def score(masks: dict[str, np.ndarray], pair: str, **options: Any) -> ClassScores:
    shape = masks["A"].shape
    fixed = {None: np.zeros(shape, dtype=np.uint8), "full": np.ones(shape, dtype=np.uint8)}
    reference, prediction = (fixed[name] if name in fixed else masks[name].astype(np.uint8) for name in PAIRS[pair])
    spacing = masks["spacing"].tolist()
    (scores,) = score_case(reference, prediction, classes={"it": 1}, spacing_mm=spacing, tolerance_mm=1.0, **options)
    return scores


@pytest.mark.parametrize("pair", DEFINED)
def test_overlap_and_nsd_equal_the_stored_ones(vectors: Any, pair: str) -> None:
    masks, expected = vectors
    scores = score(masks, pair)
    assert scores.scores["dice"] == pytest.approx(expected[pair]["dm_dice"], abs=1e-12)
    assert scores.scores["nsd"] == pytest.approx(expected[pair]["dm_nsd_tol1mm"], abs=1e-12)
    assert scores.scores["nsd"] == pytest.approx(expected[pair]["monai_nsd_tol1mm_subvoxels"], abs=1e-6)


@pytest.mark.parametrize("pair", DEFINED)
@pytest.mark.parametrize(
    ("convention", "hd95", "hd", "assd"),
    [
        ("monai", "monai_hd95", "monai_hd", "monai_assd_sym"),
        ("medpy", "medpy_hd95", "medpy_hd", "medpy_assd"),
        ("deepmind", "dm_hd95", "dm_hd100", None),
    ],
)
def test_each_peers_convention_gives_the_peers_number(
    vectors: Any, pair: str, convention: str, hd95: str, hd: str, assd: str | None
) -> None:
    masks, expected = vectors
    scores = score(masks, pair, hd95=convention)
    assert scores.scores["hd95"] == pytest.approx(expected[pair][hd95], abs=2e-5)
    assert scores.scores["hd"] == pytest.approx(expected[pair][hd], abs=2e-5)
    if assd is not None:
        assert scores.scores["assd"] == pytest.approx(expected[pair][assd], abs=2e-6)


def test_the_own_convention_lies_among_the_peers(vectors: Any) -> None:
    masks, expected = vectors
    numbers = [expected["normal_pred_B_gt_A"][name] for name in ("dm_hd95", "medpy_hd95", "monai_hd95")]
    hd95_mm = score(masks, "normal_pred_B_gt_A").scores["hd95"]
    assert hd95_mm == pytest.approx(np.mean(numbers), rel=0.05)


def test_empty_masks_have_the_policys_scores_where_peers_fail(vectors: Any) -> None:
    masks, _ = vectors
    # 24 x 28 x 20 voxels of 1 x 1 x 3 mm
    diagonal_mm = float(np.linalg.norm([24, 28, 60]))
    for pair, outcome in (("pred_empty", "missed"), ("gt_empty", "false_positive")):
        scores = score(masks, pair)
        assert (scores.outcome, scores.scores["dice"], scores.scores["nsd"]) == (outcome, 0.0, 0.0)
        assert scores.scores["hd95"] == pytest.approx(diagonal_mm)
    assert score(masks, "both_empty").scores["dice"] is None
    assert score(masks, "both_empty", empty="perfect").scores["dice"] == 1.0
