"""The promises of the repository itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
LINKS = ("pipelines", "models", "losses", "registration", "datasets")


@pytest.mark.parametrize("name", LINKS)
def test_the_folders_at_the_top_are_relative_links_into_the_package(name: str) -> None:
    assert os.readlink(ROOT / name) == f"src/equivox/{name}"  # noqa: PTH115 - the link's own text


@pytest.mark.parametrize(("builder", "prefix"), [(SdistBuilder, "src/"), (WheelBuilder, "")])
def test_what_is_built_holds_every_room_and_none_of_the_links(builder: type, prefix: str) -> None:
    files = {Path(file.distribution_path) for file in builder(str(ROOT)).recurse_included_files()}
    for room in (ROOT / "src" / "equivox").rglob("*.py"):
        assert Path(prefix, room.relative_to(ROOT / "src")) in files
    assert not [path for path in files if path.parts[0] in LINKS]


def test_the_linter_leaves_the_links_out() -> None:
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
