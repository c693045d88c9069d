"""Every command of the guide runs, one page after the other, in a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

# The guide's sizes are for readers; the tests use smaller ones of the same commands.
SMALLER = {
    "--patients 50": "--patients 18 --size 24 20 6",
    "--patients 60": "--patients 26 --size 40 36 8",
    "--patients 90": "--patients 48 --size 24 20 6",
    "--max-minutes 3\nequivox audit": (
        "--set steps=2 --set precision=float32 --set validation.every_steps=0\nequivox audit"
    ),
    "--max-minutes 3": "--set steps=6",
    "steps=20": "steps=4",
    "steps: 300": "steps: 2",
    "minimum_patients: 15": "minimum_patients: 6",
    "-o evaluation": "-o evaluation --bootstrap-draws 199 --permutation-draws 199",
    "-o audit": "-o audit --permutations 19 --draws 199 --overlap 0 --attribute sex",
}

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks, f"{page.name} shows no command"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    for language, text in blocks:
        for reader, smaller in SMALLER.items():
            text = text.replace(reader, smaller)
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md"]
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
