"""Every command of the guide runs, one page after the other, in a folder of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

# The guide's sizes are for readers; the tests use smaller ones of the same commands.
SMALLER = {
    "--patients 50": "--patients 18 --size 24 20 6",
    "--patients 60": "--patients 26 --size 40 36 8",
    "--patients 90": "--patients 48 --size 24 20 6",
    "--max-minutes 3\nequivox audit": (
        "--workers 0 --set steps=2 --set precision=float32 --set validation.every_steps=0\nequivox audit"
    ),
    "--max-minutes 3": "--set steps=6",
    "steps=20": "steps=4",
    "steps: 300": "steps: 2",
    "minimum_patients: 15": "minimum_patients: 6",
    "-o evaluation": "-o evaluation --bootstrap-draws 199 --permutation-draws 199",
    "-o audit": "-o audit --permutations 19 --draws 199 --overlap 0 --attribute sex",
}

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


# The commands of this page are those that are installed; the others have their imports done for them.
AS_INSTALLED = "landmarks"


@pytest.fixture(scope="session")
def prepared_commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A folder with `equivox` and `python` that import nothing when they start; None where they cannot be forked."""
    if sys.platform != "linux":
        yield None
        return
    folder = tmp_path_factory.mktemp("commands")
    words = [sys.executable, str(Path(__file__).with_name("command_server.py")), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield folder
        # Its standard input ends here, and with it the server.
        server.communicate()


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path, prepared_commands: Path | None) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks, f"{page.name} shows no command"
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    if prepared_commands is not None and page.stem != AS_INSTALLED:
        folders.insert(0, str(prepared_commands))
    environment = {**os.environ, "PATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}
    for language, text in blocks:
        for reader, smaller in SMALLER.items():
            text = text.replace(reader, smaller)
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else ["python", "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md"]
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
