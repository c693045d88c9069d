from pathlib import Path

import pandas as pd
import pytest

from equivox.errors import InputError
from equivox.pipelines.demo import DemoSettings, demo

SMALL = DemoSettings(patients=12, shape=(40, 36, 8), steps=2, workers=1)


def test_the_demo_leads_from_nothing_to_a_report_and_runs_again_on_its_cohort(tmp_path: Path) -> None:
    report = demo(tmp_path / "demo", settings=SMALL)
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
    cases = pd.read_csv(report.parent / "cases.csv")
    assert set(cases["class"]) == {"organ", "lesion"}
    assert set(cases["role"]) == {"test", "out_of_fold"}
    split = pd.read_csv(tmp_path / "demo" / "cohort" / "split.csv", dtype=str)
    assert set(cases["case_id"]) == set(split.loc[split["fold"].isin(["test", "0"]), "case_id"])

    with pytest.raises(InputError, match="holds an earlier demo; add --overwrite"):
        demo(tmp_path / "demo", settings=SMALL)
    again = demo(tmp_path / "second", cohort=tmp_path / "demo" / "cohort", settings=SMALL)
    # The scores may differ a little: the precision of the training is measured anew on each run.
    scored = ["case_id", "class", "role", "reference_voxels"]
    pd.testing.assert_frame_equal(pd.read_csv(again.parent / "cases.csv")[scored], cases[scored])


def test_a_folder_that_is_no_demo_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="in use by something else"):
        demo(tmp_path, settings=SMALL, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_nothing_is_removed_before_the_demo_can_begin(tmp_path: Path, training_cohort: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / ".equivox-demo").touch()
    (out / "run").mkdir()
    inner = training_cohort.rename(out / "cohort")
    for choice, words in (
        ({"settings": DemoSettings(patients=-5)}, "--patients: expected 1 or more"),
        ({"cohort": tmp_path / "none"}, "expected a cohort folder"),
        ({"cohort": inner}, "expected a cohort outside of"),
    ):
        with pytest.raises(InputError, match=words):
            demo(out, overwrite=True, **choice)
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=r"expected nothing beside the earlier demo, got thesis\.txt"):
        demo(out, overwrite=True)
    assert {path.name for path in out.iterdir()} == {".equivox-demo", "run", "cohort", "thesis.txt"}


@pytest.mark.parametrize("minutes", [float("nan"), float("inf"), 0.0])
def test_a_time_that_is_none_is_refused_before_anything_is_made(tmp_path: Path, minutes: float) -> None:
    with pytest.raises(InputError, match=r"--max-minutes: expected a number of minutes above 0, got (nan|inf|0); "):
        demo(tmp_path / "demo", settings=DemoSettings(max_minutes=minutes))
    assert not (tmp_path / "demo").exists()
