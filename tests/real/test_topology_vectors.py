"""Our topology scores against the numbers that gudhi and the programs of Betti matching gave for stored masks."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equivox.metrics.masks.betti_matching import betti_matching, published_betti_matching
from equivox.metrics.masks.centreline import cldice
from equivox.metrics.masks.topology import betti_number_errors, betti_numbers

pytestmark = pytest.mark.real

needs_topolosses = pytest.mark.skipif(
    importlib.util.find_spec("topolosses") is None, reason="the extra topology has no wheel for this platform"
)


@pytest.fixture(scope="module")
def vectors(real_data: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    folder = real_data.parent / "vectors"
    with np.load(folder / "topology.npz") as stored:
        masks = {name: stored[name] > 0.5 for name in stored.files}
    expected: dict[str, Any] = json.loads((folder / "topology.json").read_text(encoding="utf-8"))
    return masks, expected


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(("connectivity", "construction"), [("full", "T"), ("face", "V")])
@pytest.mark.parametrize(("mask", "name"), [("p", "pred"), ("t", "tgt")])
def test_betti_numbers_are_those_of_gudhis_construction(
    vectors: Any, dimensions: int, connectivity: Any, construction: str, mask: str, name: str
) -> None:
    masks, expected = vectors
    numbers = betti_numbers(masks[f"{mask}{dimensions}"], connectivity=connectivity)
    assert list(numbers) == expected[f"gudhi_{dimensions}d_{name}_{construction}"][:3]


@needs_topolosses
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_published_errors_are_reproduced(vectors: Any, dimensions: int) -> None:
    masks, expected = vectors
    stored = expected[f"metric_{dimensions}d_thr0.5_superlevel"]
    truth, guess = masks[f"t{dimensions}"], masks[f"p{dimensions}"]
    matching = published_betti_matching(truth, guess)
    assert list(matching.matched[:dimensions]) == stored["num_matched"]
    assert list(matching.unmatched_prediction[:dimensions]) == stored["unm_pred"]
    assert list(matching.unmatched_reference[:dimensions]) == stored["unm_tgt"]
    assert list(matching.errors[:dimensions]) == stored["betti_matching_error_per_dim"]
    errors = betti_number_errors(truth, guess, connectivity="face")
    assert list(errors[:dimensions]) == stored["betti_number_error_per_dim"]


def test_our_matching_counts_the_piece_that_the_compiled_program_leaves_out(vectors: Any) -> None:
    masks, expected = vectors
    matching = betti_matching(masks["t2"], masks["p2"])
    stored = expected["nstucki_python_2d"]
    unmatched = [matching.unmatched_prediction[0], matching.unmatched_reference[0]]
    assert unmatched == stored["python2d_metric_unmatched(pred,tgt)_dim0"]
    assert matching.matched[0] == stored["matched_dim0"]


@pytest.mark.parametrize(
    ("dimensions", "precision", "sensitivity"),
    # The prediction's centreline has 30 pixels in 2D and 60 voxels in 3D, the reference's 17 and 55.
    [(2, 9 / 30, 8 / 17), (3, 18 / 60, 10 / 55)],
)
def test_cldice_of_masks_is_another_number_than_the_loss_of_probabilities(
    vectors: Any, dimensions: int, precision: float, sensitivity: float
) -> None:
    masks, expected = vectors
    scores = cldice(masks[f"t{dimensions}"], masks[f"p{dimensions}"])
    assert (scores.topology_precision, scores.topology_sensitivity) == pytest.approx((precision, sensitivity))
    # The stored numbers are one minus a clDice of probabilities with soft skeletons, with 1 added to each sum.
    assert scores.cldice < 1 - expected[f"cldice_{dimensions}d_monai_default"]
