"""The conventions of other tools against what those tools gave for stored masks."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from equivox.metrics.conventions.case_values import reported_values
from equivox.pipelines.evaluation.conventions import summarise_tools

pytestmark = pytest.mark.real

PAIRS = {
    "normal_pred_B_gt_A": ("A", "B"),
    "identical": ("A", "A"),
    "pred_empty": ("A", None),
    "gt_empty": (None, "A"),
    "both_empty": (None, None),
    # The stored one-way distances say which of the two was the prediction.
    "touching_border": ("edge2", "edge"),
    "full_vs_A": ("A", "full"),
}
NAMES = {
    "monai": {
        **{"dice": "monai_dice", "nsd": "monai_nsd_tol1mm", "hd95": "monai_hd95", "hd": "monai_hd"},
        **{"assd": "monai_assd_sym", "asd": "monai_asd_directed_pred2gt"},
    },
    "surface-distance": {"dice": "dm_dice", "nsd": "dm_nsd_tol1mm", "hd95": "dm_hd95", "hd": "dm_hd100"},
    "medpy": {"dice": "medpy_dc", "hd95": "medpy_hd95", "hd": "medpy_hd", "assd": "medpy_assd", "asd": "medpy_asd"},
}


@pytest.fixture(scope="module")
def vectors(real_data: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    folder = real_data.parent / "vectors"
    with np.load(folder / "metrics.npz") as stored:
        masks = {name: stored[name] for name in stored.files}
    expected = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("metrics", "fairseg")]
    return masks, expected[0], expected[1]


@pytest.mark.parametrize("tool", NAMES)
@pytest.mark.parametrize("pair", PAIRS)
def test_every_stored_number_is_reported_with_what_is_no_number(vectors: Any, pair: str, tool: str) -> None:
    masks, expected, _ = vectors
    shape = masks["A"].shape
    fixed = {None: np.zeros(shape, dtype=np.uint8), "full": np.ones(shape, dtype=np.uint8)}
    reference, prediction = (fixed[name] if name in fixed else masks[name].astype(np.uint8) for name in PAIRS[pair])
    values = reported_values(
        reference,
        prediction,
        classes={"it": 1},
        spacing_mm=masks["spacing"].tolist(),
        tolerance_mm=1.0,
        tools=(tool,),
    )
    found = {value.metric: value.value for value in values if value.class_name == "it"}
    for metric, name in NAMES[tool].items():
        stored = expected[pair][name]
        if isinstance(stored, str):
            assert stored.startswith("ERR")
            assert found[metric] is None, metric
        else:
            assert found[metric] == pytest.approx(stored, rel=2e-6, abs=2e-6, nan_ok=True), metric
    if tool == "surface-distance":
        directed = expected[pair]["dm_asd_gt2pred"], expected[pair]["dm_asd_pred2gt"]
        assert found["masd"] == pytest.approx(sum(directed) / 2, rel=2e-6, nan_ok=True)


def test_equity_scaled_scores_of_fairseg_are_the_stored_ones(vectors: Any) -> None:
    _, _, expected = vectors
    stored = expected["es"]
    images = [(group, value) for group, values in enumerate(stored["groups"]) for value in values]
    cases = [f"image{number}" for number in range(len(images))]
    rows = pd.DataFrame(
        {
            "case_id": cases,
            "patient_id": cases,
            "class": "cup",
            "outcome": "scored",
            "attribute:race": [str(group) for group, _ in images],
        }
    )
    dice = [value for _, value in images]
    reported = pd.DataFrame(
        {"case_id": cases, "tool": "fairseg", "class": "cup", "metric": "dice", "value": dice, "state": "number"}
    )
    reported = pd.concat([reported, reported.assign(metric="iou")])
    summary, _ = summarise_tools(rows, reported, tools=("fairseg",), length_unit="voxels", with_reasons=False)
    scaled = summary["fairseg"]["equity"]["race"]["cup"]["dice"]
    assert scaled["overall"] == pytest.approx(stored["overall"], abs=1e-12)
    assert scaled["es_sum"] == pytest.approx(stored["es_sumabs"], abs=1e-12)
    assert scaled["es_std"] == pytest.approx(stored["es_std(sample,ddof=1)"], abs=1e-12)
    assert math.isclose(scaled["overall"], float(np.mean(dice)))
