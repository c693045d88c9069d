"""One patient is not "1 patients", in the terminal, on the pages and in the card."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from equivox.cli.app import app

COUNTS = r"(?<![\d,.])1 (?:patients|cases|structures|landmarks|layers|masks)\b"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """One patient with a perfect mask and an image."""
    labels = np.zeros((6, 7, 5), dtype=np.uint8)
    labels[1:4, 2:5, 0:3] = 1
    for name, array in (("refs", labels), ("preds", labels), ("images", labels.astype(np.float32))):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(array, np.diag([0.5, 1.0, 3.0, 1.0])), tmp_path / name / "a.nii.gz")
    for name in ("truth", "guess"):
        (tmp_path / f"{name}.csv").write_text("case_id,landmark,x,y\na,apex,1,2\n")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "evaluate --references refs --predictions preds --images images",
        "measure --masks refs --images images",
        "evaluate-landmarks --references truth.csv --predictions guess.csv",
    ],
)
def test_one_of_a_kind_is_in_the_singular(one: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(one)
    done = CliRunner().invoke(app, [*command.split(), "-o", "out"])
    assert done.exit_code == 0, done.output
    assert "1 patient, 1 case" in done.output
    texts = [done.output, *(path.read_text(encoding="utf-8") for path in sorted(Path("out").glob("*.[hm][td]*")))]
    for text in texts:
        assert re.findall(COUNTS, re.sub(r"<[^>]+>", "", text)) == []
