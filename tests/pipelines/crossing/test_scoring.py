import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from equivox.datasets.cohort import Cohort, CohortConfig
from equivox.errors import InputError
from equivox.metrics.statistics.cross_site import TrainingPool
from equivox.pipelines.cross_site_config import CrossSiteConfig
from equivox.pipelines.crossing.pools import Model
from equivox.pipelines.crossing.scoring import score_predictions
from equivox.pipelines.crossing.sites import SiteCase, Sites

CLASSES = {"node": 1, "organ": 2}
AFFINE = np.diag([1.0, 1.5, 4.0, 1.0])
SHAPE = (4, 3, 2)


def node(*places: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for place in places:
        mask[place] = 1
    return mask


def scored(
    folder: Path, cases: dict[str, tuple[str, np.ndarray, np.ndarray, float]], gone: str = "", **settings
) -> pd.DataFrame:
    """Score cases of patients: case -> patient, reference, prediction and a probability that is the same everywhere."""
    classes = {name: CLASSES[name] for name in settings.pop("classes", ["node"])}
    names = {0: "background", **{index: name for name, index in CLASSES.items()}}
    config = CohortConfig(name="toy", channels={"mr": {}}, classes=CLASSES, label_values=names)
    predictions = folder / "predictions"
    rows = []
    for case_id, (patient, reference, prediction, probability) in cases.items():
        maps = predictions / "probabilities" / case_id
        maps.mkdir(parents=True)
        nib.Nifti1Image(reference, AFFINE).to_filename(folder / f"{case_id}.nii.gz")
        nib.Nifti1Image(prediction, AFFINE).to_filename(predictions / f"{case_id}.nii.gz")
        for name, index in classes.items():
            certain = np.full(SHAPE, probability, dtype=np.float32)
            nib.Nifti1Image(certain, AFFINE).to_filename(maps / f"{index}-{name}.nii.gz")
        rows.append({"case_id": case_id, "patient_id": patient, "image:mr": "", "label": f"{case_id}.nii.gz"})
    if gone:
        shutil.rmtree(predictions / gone)
    (predictions / "labels.json").write_text(json.dumps(names))
    people = tuple(SiteCase(one["case_id"], one["patient_id"], "A", 1.0, 4.0, "hash") for one in rows)
    cohort = Cohort(folder, config, pd.DataFrame(rows))
    sites = Sites(cohort, people, ("A",), (), classes, {}, {}, {}, in_voxels=False)
    patients = tuple(sorted({one.patient_id for one in people}))
    model = Model("own-a-fold0", TrainingPool("own", "A"), 0, None, ("x",), "x", {"A": patients})
    table, units = score_predictions(
        predictions, model, sites, CrossSiteConfig(cohort="toy", **settings), list(cases), workers=1
    )
    assert set(units) == set(table["metric"])
    return table.pivot_table(index="patient_id", columns="metric", values="value")


def test_lesions_are_counted_over_the_cases_of_a_patient(tmp_path) -> None:
    cases = {
        # Two lesions, of which one is found, and a false detection.
        "c1": ("p1", node((0, 0, 0), (3, 2, 0)), node((0, 0, 0), (0, 2, 1)), 0.1),
        # One lesion, found.
        "c2": ("p1", node((1, 1, 1)), node((1, 1, 1)), 0.1),
        # No lesion, two false detections.
        "c3": ("p2", node(), node((0, 0, 0), (3, 2, 1)), 0.1),
    }
    found = scored(tmp_path, cases, metrics=["dice", "lesion_recall", "lesion_false_positives"])
    # 2 of 3 lesions; the mean over cases would be 3/4.
    assert found.loc["p1", "lesion_recall"] == pytest.approx(2 / 3)
    assert found["lesion_false_positives"].to_dict() == {"p1": 1, "p2": 2}
    # Who has no lesion has no recall, and is no patient with a perfect one.
    assert np.isnan(found.loc["p2", "lesion_recall"])


def test_lesions_of_the_lesion_class_alone_where_one_is_named(tmp_path) -> None:
    reference = node((0, 0, 0)) + 2 * node((3, 2, 0))
    cases = {"c1": ("p1", reference, node((0, 0, 0)) + 2 * node((3, 0, 1)), 0.1)}
    both = {"classes": ["node", "organ"], "metrics": ["dice", "lesion_recall", "lesion_false_positives"]}
    (tmp_path / "all").mkdir()
    found = scored(tmp_path / "all", cases, **both)
    # Recall is 1 of nodes and 0 of organs.
    assert (found.loc["p1", "lesion_recall"], found.loc["p1", "lesion_false_positives"]) == (0.5, 1)
    (tmp_path / "one").mkdir()
    found = scored(tmp_path / "one", cases, lesion_class="node", **both)
    assert (found.loc["p1", "lesion_recall"], found.loc["p1", "lesion_false_positives"]) == (1, 0)


def test_a_patient_s_calibration_error_is_of_the_bins_of_all_cases(tmp_path) -> None:
    # All 24 voxels of a case lie within 5 mm of a mask that spans it. 12 and 0 of them are of the class: with 0.25
    # everywhere the error is |0.25 - 12 / 48| = 0, where the mean over the cases would be 0.25.
    half = np.zeros(SHAPE, dtype=np.uint8)
    half[:2] = 1
    cases = {"c1": ("p1", half, half, 0.25), "c2": ("p1", node(), half, 0.25), "c3": ("p2", half, half, 0.1)}
    found = scored(tmp_path, cases, metrics=["dice", "ece"])
    assert found.loc["p1", "ece"] == pytest.approx(0.0, abs=1e-6)
    assert found.loc["p2", "ece"] == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize("gone", ["probabilities", "probabilities/c2"])
def test_a_missing_map_is_named(tmp_path, gone) -> None:
    cases = {"c1": ("p1", node(), node(), 0.1), "c2": ("p2", node(), node(), 0.1)}
    case = "c1" if gone == "probabilities" else "c2"
    words = rf"expected the probabilities of case '{case}', got none; remove .* and run again"
    with pytest.raises(InputError, match=words):
        scored(tmp_path, cases, gone=gone, metrics=["dice", "ece"])


def test_the_wide_nsd_is_the_nsd_at_the_wide_tolerance_and_nothing_else_changes(tmp_path) -> None:
    # One slice off along the axis of 4 mm: within 5 mm, not within 2.
    cases = {"c1": ("p1", node((1, 1, 0)), node((1, 1, 1)), 0.1)}
    for name in ("both", "wide"):
        (tmp_path / name).mkdir()
    both = scored(tmp_path / "both", cases, metrics=["dice", "hd95", "nsd", "nsd_wide"], wide_tolerance=5.0).loc["p1"]
    wide = scored(tmp_path / "wide", cases, metrics=["dice", "hd95", "nsd"], tolerance=5.0).loc["p1"]
    assert both["nsd"] < 0.6 < both["nsd_wide"] == wide["nsd"] == 1.0
    assert (both["dice"], both["hd95"]) == (wide["dice"], wide["hd95"])
