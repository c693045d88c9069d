import copy
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from equivox.metrics.lesions.options import LesionOptions
from equivox.pipelines.evaluate import EvaluateOptions, evaluate
from equivox.pipelines.evaluation.schema import summary_schema


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An evaluation with everything that can be asked for, a missing prediction and a structure in neither mask."""
    folder = tmp_path_factory.mktemp("schema")
    rng = np.random.default_rng(0)
    for name in ("references", "predictions"):
        (folder / name).mkdir()
    rows = []
    for number in range(24):
        labels = np.zeros((8, 7, 5), dtype=np.uint8)
        labels[1:5, 1:4, 1:3] = 1
        if number != 3:
            labels[6, 5, 3] = 2
        guess = np.where(rng.random(labels.shape) < 0.1, 0, labels).astype(np.uint8)
        affine = np.diag([0.5, 1.0, 3.0, 1.0])
        nib.save(nib.Nifti1Image(labels, affine), folder / "references" / f"c{number:02d}.nii.gz")
        if number != 5:
            nib.save(nib.Nifti1Image(guess, affine), folder / "predictions" / f"c{number:02d}.nii.gz")
        rows.append((f"c{number:02d}", "FM"[number % 2], 30 + 2 * number))
    pd.DataFrame(rows, columns=["case_id", "sex", "age"]).to_csv(folder / "people.csv", index=False)
    found = evaluate(
        folder / "out",
        references=folder / "references",
        predictions=folder / "predictions",
        groups=folder / "people.csv",
        attributes=["sex"],
        continuous={"age": (50.0,)},
        classes={1: "organ", 2: "lesion"},
        options=EvaluateOptions(
            bootstrap_draws=199,
            permutation_draws=199,
            simulation_repeats=100,
            metrics=("overlap", "surface", "volume", "centreline", "topology"),
            lesions=LesionOptions(),
            reconcile=True,
        ),
    )
    return found.summary


def test_the_schema_is_itself_sound() -> None:
    jsonschema.Draft202012Validator.check_schema(summary_schema())


def test_a_full_summary_fits_the_schema(summary: dict[str, Any]) -> None:
    faults = jsonschema.Draft202012Validator(summary_schema()).iter_errors(summary)
    assert [fault.message for fault in faults] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("tables", 0, "role"), "training"),
        (("tables", 0, "overall", "dice", "mean"), "0.8"),
        (("tables", 0, "attributes", 0, "verdict", "answer"), "fair"),
        (("tables", 0, "residuals", "trends", 0, "raw", "spearman"), "0.3"),
        (("tables", 0, "slices", "slices"), None),
        (("left_out", "missing_predictions"), {}),
        (("settings", "distance_unit"), "cm"),
    ],
)
def test_another_shape_does_not_fit(summary: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    changed = copy.deepcopy(summary)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, summary_schema(), jsonschema.Draft202012Validator)
