"""Where the real scans are."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that EQUIVOX_TEST_DATA names; without the variable the test is skipped, with a wrong one it fails."""
    name = os.environ.get("EQUIVOX_TEST_DATA")
    if not name:
        pytest.skip("EQUIVOX_TEST_DATA does not name a folder with the real scans")
    folder = Path(name)
    if not folder.is_dir():
        pytest.fail(f"EQUIVOX_TEST_DATA names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def opened_body(chromium: Callable[..., str]) -> Callable[[Path], str]:
    """Open a page in a real browser and return the tag of its body once its script has run."""

    def load(page: Path) -> str:
        dom = chromium(page, "--virtual-time-budget=20000", "--dump-dom")
        body = re.search(r"<body[^>]*>", dom)
        return "" if body is None else body[0]

    return load
