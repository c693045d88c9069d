import importlib.metadata
import json

import pytest
from typer.testing import CliRunner

from equivox.cli.app import app
from equivox.pipelines.doctor import REQUIRED, examine


def test_a_sound_installation_has_every_package() -> None:
    findings = examine()
    assert findings.sound
    assert findings.problems == ()
    assert findings.packages == {name: importlib.metadata.version(name) for name in REQUIRED}
    assert int(findings.machine["processors"]) >= 1


def test_a_missing_package_and_a_foreign_torchvision_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_itk(name: str) -> str:
        if name == "itk-elastix":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_itk)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["numpy", "torch==99.0.0"])
    findings = examine()
    assert not findings.sound
    assert findings.packages["itk-elastix"] is None
    assert findings.problems[0].startswith("itk-elastix is missing")
    assert "needs torch==99.0.0" in findings.problems[1]


def test_findings_are_printed_as_json() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["sound"] is True
