"""The promises of the repository itself."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = ("pipelines", "models", "losses", "registration", "datasets")


@pytest.mark.parametrize("name", LINKS)
def test_the_folders_at_the_top_are_relative_links_into_the_package(name: str) -> None:
    assert os.readlink(ROOT / name) == f"src/equivox/{name}"  # noqa: PTH115 - the link's own text


def test_the_tools_leave_the_links_out() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert {f"/{name}" for name in LINKS} <= set(settings["hatch"]["build"]["targets"]["sdist"]["exclude"])
    ruff = [Path(sys.executable).with_name("ruff"), "check", "--show-files"]
    files = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=True)
    seen = [Path(line).relative_to(ROOT) for line in files.stdout.split() if line.endswith(".py")]
    assert not [path for path in seen if path.parts[0] in LINKS]
    for name in LINKS:
        assert Path(f"src/equivox/{name}/__init__.py") in seen


def test_nothing_imports_torchvision_or_timm() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert "import torchvision" not in text
    assert "import timm" not in text


def test_torch_is_pinned_with_its_own_torchvision() -> None:
    assert (ROOT / "constraints.txt").read_text().split() == ["torch==2.13.0", "torchvision==0.28.0"]
