import json
import math
from pathlib import Path

import pytest

from equivox import __version__
from equivox.pipelines.summary_file import summary_head, write_summary


def test_head_says_which_version_made_it_and_when() -> None:
    head = summary_head(7)
    assert (head["schema_version"], head["equivox_version"]) == (7, __version__)
    assert head["created"].endswith("+00:00")


def test_summary_is_read_as_it_was_written_and_letters_stay_letters(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.json", {"name": "Ärzte", "mean": 0.1})
    text = (tmp_path / "summary.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "Ärzte", "mean": 0.1}
    assert "Ärzte" in text
    assert text.endswith("}\n")


def test_number_that_json_cannot_say_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_summary(tmp_path / "summary.json", {"mean": math.nan})
    assert not (tmp_path / "summary.json").exists()
