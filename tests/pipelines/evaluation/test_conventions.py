import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from equivox.metrics.conventions.catalog import CONVENTIONS
from equivox.metrics.masks.case_scores import score_case
from equivox.pipelines.evaluation.conventions import RECONCILE_COLUMNS, TOOL_COLUMNS, summarise_tools, tool_rows

CLASSES = {"organ": 1, "lesion": 2}
SPACING = (1.0, 1.5, 3.0)
TOOLS = tuple(CONVENTIONS)


def maps(lesion: str, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """A block of organ that the prediction shifts, and a lesion in both maps, in one or in none."""
    reference, prediction = np.zeros((2, 12, 10, 6), dtype=np.uint8)
    reference[2:7, 2:8, 1:5], prediction[2 + shift : 7 + shift, 2:8, 1:5] = 1, 1
    if lesion in ("both", "reference"):
        reference[3:5, 3:6, 2:4] = 2
    if lesion in ("both", "prediction"):
        prediction[3 + shift : 5 + shift, 3:6, 2:4] = 2
    return reference, prediction


COHORT = {
    "p1a": ("p1", "F", "both", 1),
    "p1b": ("p1", "F", "neither", 0),
    "p2": ("p2", "M", "reference", 2),
    "p3": ("p3", "M", "prediction", 1),
    "p4": ("p4", None, "both", 0),
    "p5": ("p5", "F", "both", None),
}
"""Case -> patient, sex, where the lesion is, by how much the prediction is off (None: there is no prediction)."""


def scored(tools: tuple[str, ...] = TOOLS) -> tuple[pd.DataFrame, pd.DataFrame]:
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    settings = {"classes": CLASSES, "spacing_mm": SPACING, "tolerance_mm": 1.5}
    for case, (patient, sex, lesion, shift) in COHORT.items():
        reference, prediction = maps(lesion, shift or 0)
        found = np.zeros_like(prediction) if shift is None else prediction
        for score in score_case(reference, found, **settings):
            outcome = "no_prediction" if shift is None else score.outcome
            head = {"case_id": case, "patient_id": patient, "attribute:sex": sex}
            ours.append({**head, "class": score.class_name, "outcome": outcome, **score.scores})
        theirs += tool_rows(case, reference, None if shift is None else prediction, tools=tools, **settings)
    return pd.DataFrame(ours), pd.DataFrame(theirs)


@pytest.fixture(scope="module")
def summarised() -> tuple[dict[str, Any], pd.DataFrame]:
    ours, theirs = scored()
    return summarise_tools(ours, theirs, tools=TOOLS, length_unit="mm", with_reasons=True)


def test_means_are_those_of_the_tools_by_hand(summarised: Any) -> None:
    summary, _ = summarised
    # The organ has 5*6*4 = 120 voxels, less the lesion's 12; a shift by one leaves 4/5 of a block, by two 3/5.
    ours, theirs = scored()
    dice = theirs[(theirs["tool"] == "nnunet") & (theirs["metric"] == "dice")].set_index(["case_id", "class"])["value"]
    assert dice["p1b", "organ"] == 1.0
    assert dice["p2", "lesion"] == dice["p3", "lesion"] == 0.0
    assert dice["p1a", "lesion"] == pytest.approx(0.5)
    by_class = summary["nnunet"]["metrics"]["dice"]["by_class"]
    # p1a 0.5, p2 0, p3 0, p4 1; in neither mask of p1b.
    assert by_class["lesion"] == pytest.approx(1.5 / 4)
    assert summary["nnunet"]["metrics"]["dice"]["mean"] == pytest.approx((1.5 / 4 + by_class["organ"]) / 2)
    # MONAI leaves p3 out of Dice as well; FairSeg scores p3 as 1, and p1b as 0.
    assert summary["monai"]["metrics"]["dice"]["by_class"]["lesion"] == pytest.approx(1.5 / 3)
    assert summary["fairseg"]["metrics"]["dice"]["by_class"]["lesion"] == pytest.approx(2.5 / 5)
    assert set(summary["monai"]["metrics"]["dice"]["by_class"]) == {"organ", "lesion", "background"}
    assert set(ours["outcome"]) == {"scored", "missed", "false_positive", "both_empty", "no_prediction"}


def test_what_is_no_number_is_told_in_words(summarised: Any) -> None:
    summary, _ = summarised
    hd95 = summary["surface-distance"]["metrics"]["hd95"]
    assert (hd95["mean"], hd95["mean_words"], hd95["by_class"]["lesion"]) == (None, "infinite", None)
    nsd = summary["fairseg"]["metrics"]["nsd"]
    assert (nsd["mean"], nsd["mean_words"]) == (None, "not defined")
    assert json.dumps(summary, allow_nan=False)


def test_every_difference_is_split_into_reasons(summarised: Any) -> None:
    summary, _ = summarised
    seen = set()
    for tool in TOOLS:
        for key, record in summary[tool]["reconciliation"].items():
            amounts = [one["amount"] for one in record["contributions"]]
            seen |= {one["reason"] for one in record["contributions"]}
            if record["theirs"] is not None:
                assert math.fsum(amounts) == pytest.approx(record["theirs"] - record["ours"], abs=1e-12), (tool, key)
            elif record["theirs_words"] == "infinite":
                assert record["contributions"][-1]["amount_words"] == "infinite"
    assert {"missing_prediction_ignored", "missed_structure_dropped", "background_scored", "infinite"} <= seen
    assert {"empty_reference_scored", "both_empty_scored", "voxel_units", "surface_convention"} <= seen


def test_metrics_that_we_do_not_have_are_not_explained(summarised: Any) -> None:
    summary, _ = summarised
    assert "asd" in summary["medpy"]["metrics"]
    assert "asd" not in summary["medpy"]["reconciliation"]


def test_the_table_has_a_row_for_each_structure_metric_and_tool(summarised: Any) -> None:
    _, table = summarised
    assert list(table.columns) == list(RECONCILE_COLUMNS)
    assert not table.duplicated(["case_id", "class", "metric", "tool"]).any()
    part = table[(table["tool"] == "monai") & (table["metric"] == "dice")].set_index(["case_id", "class"])
    # Six cases of two classes, and the background of the five that have a prediction.
    assert len(part) == 12 + 5
    assert part.loc[("p3", "lesion"), "reason"] == "empty_reference_dropped"
    assert part.loc[("p5", "organ"), "reason"] == "missing_prediction_ignored"
    assert part.loc[("p1b", "lesion"), "reason"] == "left_out_by_both"


def test_the_structures_that_differ_most_come_first(summarised: Any) -> None:
    summary, _ = summarised
    largest = summary["fairseg"]["reconciliation"]["dice"]["largest"]
    assert (largest[0]["case_id"], largest[0]["ours"], largest[0]["theirs"]) == ("p3", 0.0, 1.0)
    assert "background" not in {one["class"] for one in summary["monai"]["reconciliation"]["dice"]["largest"]}
    told = {
        (tool, one["case_id"]): one["theirs_words"]
        for tool in ("monai", "medpy", "surface-distance")
        for one in summary[tool]["reconciliation"]["hd95"]["largest"]
        if one["class"] == "lesion" and one["theirs"] is None
    }
    for case in ("p2", "p3"):
        assert [told[tool, case] for tool in ("monai", "medpy", "surface-distance")] == ["NaN", "error", "infinite"]
    assert told["monai", "p5"] == "none"


def test_fairseg_scales_image_means_by_group_by_hand(summarised: Any) -> None:
    summary, _ = summarised
    lesion = summary["fairseg"]["equity"]["sex"]["lesion"]["dice"]
    # Images: p1a 0.5 (F), p1b 0 (F), p2 0 (M), p3 1 (M), p4 1 (unknown), p5 has no prediction.
    assert lesion["overall"] == pytest.approx(0.5)
    assert lesion["groups"] == {"F": pytest.approx(0.25), "M": pytest.approx(0.5)}
    assert lesion["es_sum"] == pytest.approx(0.5 / 1.25)
    assert lesion["es_std"] == pytest.approx(0.5 / (1 + 0.25 / math.sqrt(2)))


def test_without_reasons_there_are_only_means() -> None:
    ours, theirs = scored(("medpy",))
    summary, table = summarise_tools(ours, theirs, tools=("medpy",), length_unit="mm", with_reasons=False)
    assert "reconciliation" not in summary["medpy"]
    assert (len(table), list(table.columns)) == (0, list(RECONCILE_COLUMNS))
    assert summary["medpy"]["missing_predictions"] == 1


def test_cases_of_other_tables_are_left_out() -> None:
    ours, theirs = scored(("nnunet",))
    part = ours[ours["case_id"].isin(["p1a", "p4"])]
    summary, table = summarise_tools(part, theirs, tools=("nnunet",), length_unit="mm", with_reasons=True)
    assert summary["nnunet"]["metrics"]["dice"]["cases"] == 2
    assert set(table["case_id"]) == {"p1a", "p4"}


def test_a_cohort_without_predictions_has_no_means() -> None:
    ours, theirs = scored()
    gone = ours[ours["case_id"] == "p5"]
    assert tuple(theirs.columns) == TOOL_COLUMNS
    for reported in (theirs, pd.DataFrame([], columns=list(TOOL_COLUMNS))):
        summary, table = summarise_tools(gone, reported, tools=TOOLS, length_unit="mm", with_reasons=True)
        assert {summary[tool]["metrics"]["dice"]["mean"] for tool in TOOLS} == {None}
        assert set(table["reason"]) == {"missing_prediction_ignored"}


@pytest.mark.parametrize("gone", [(), ("p1a", "p4")])
def test_nnunet_means_are_those_of_its_evaluator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: tuple[str, ...]
) -> None:
    from nnunetv2.evaluation import evaluate_predictions

    class Reader:
        def read_seg(self, path: str) -> tuple[np.ndarray, dict]:
            return np.load(path)[None].astype(np.int16), {}

    class Here:
        """Takes the place of a pool of processes."""

        def __init__(self, *_: Any) -> None: ...

        def __enter__(self) -> "Here":
            return self

        def __exit__(self, *_: object) -> None: ...

        Pool = property(lambda self: Here)

        def starmap(self, function: Any, items: Any) -> list[Any]:
            return [function(*item) for item in items]

    monkeypatch.setattr(evaluate_predictions.multiprocessing, "get_context", lambda _: Here())
    folders = [tmp_path / name for name in ("references", "predictions")]
    for folder in folders:
        folder.mkdir()
    kept = {case: one for case, one in COHORT.items() if case not in gone}
    for case, (_, _, lesion, shift) in kept.items():
        reference, prediction = maps(lesion, shift or 0)
        np.save(folders[0] / f"{case}.npy", reference)
        if shift is not None:
            np.save(folders[1] / f"{case}.npy", prediction)
    arguments: tuple[Any, ...] = (*map(str, folders), None, Reader(), ".npy", list(CLASSES.values()))
    with pytest.raises(AssertionError, match="Not all files in folder_ref exist"):
        evaluate_predictions.compute_metrics_on_folder(*arguments, chill=False)
    theirs = evaluate_predictions.compute_metrics_on_folder(*arguments, num_processes=1, chill=True)
    rows, reported = scored(("nnunet",))
    rows = rows[~rows["case_id"].isin(gone)]
    summary, _ = summarise_tools(rows, reported, tools=("nnunet",), length_unit="mm", with_reasons=True)
    for key, name in (("dice", "Dice"), ("iou", "IoU")):
        ours = summary["nnunet"]["metrics"][key]
        assert ours["mean"] == pytest.approx(theirs["foreground_mean"][name], abs=1e-12)
        assert list(ours["by_class"].values()) == pytest.approx([theirs["mean"][index][name] for index in (1, 2)])


@pytest.mark.filterwarnings("ignore")
def test_monai_means_are_those_of_its_metrics(summarised: Any) -> None:
    import monai.metrics
    import torch

    metrics = {
        "dice": monai.metrics.DiceMetric(),
        "nsd": monai.metrics.SurfaceDiceMetric([1.5] * 2),
        "hd95": monai.metrics.HausdorffDistanceMetric(percentile=95),
        "hd": monai.metrics.HausdorffDistanceMetric(),
    }
    for _, _, lesion, shift in COHORT.values():
        if shift is None:
            continue
        reference, prediction = (
            torch.stack([torch.from_numpy(labels == index) for index in range(3)])[None].float()
            for labels in maps(lesion, shift)
        )
        for key, metric in metrics.items():
            metric(prediction, reference, **({} if key == "dice" else {"spacing": list(SPACING)}))
    summary, _ = summarised
    for key, metric in metrics.items():
        mean = float(metric.aggregate())
        ours = summary["monai"]["metrics"][key]
        assert (math.inf if ours.get("mean_words") == "infinite" else ours["mean"]) == pytest.approx(mean, rel=1e-6)
