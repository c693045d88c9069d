"""Scans of the training that come under another name: told by the contents of their files."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from equivox.datasets.cohort import Case, Cohort, load_cohort
from equivox.datasets.store import Store
from equivox.errors import InputError
from equivox.hashing import file_sha256
from equivox.pipelines.preprocess import STORE_NAME
from equivox.pipelines.run_folder import MANIFEST, RunFolder

Evidence = Literal["images", "prepared", "none"]
"""What the run leaves to tell its scans by: the hashes of their image files; the keys of its prepared cases, which are
the same only where images, label and the classes' numbers all are; or nothing."""


@dataclass(frozen=True)
class Recognised:
    """What was found.

    Attributes:
        evidence: See `Evidence`.
        cases: Case of the cohort -> cases of the training whose files are the same, whatever they are called.
    """

    evidence: Evidence
    cases: Mapping[str, tuple[str, ...]]


def recognise(run: RunFolder, cohort: Cohort) -> Recognised:
    """Find the scans of a cohort that the run was trained or validated on, by the contents of their files.

    The run's manifest has the hashes of the image files; of an older run, they are taken from its cohort where that is
    still as it was; else the keys of the prepared cases are compared. A scan that was saved anew, with other bytes, is
    not recognised.

    Args:
        run: The run.
        cohort: Any.
    """
    if not (run.path / MANIFEST).is_file():
        return Recognised("none", {})
    trained = run.manifest["cases"]
    channels = run.plan.preprocessing.channels
    store = Store(cohort.folder / STORE_NAME)

    def by_images(case: Case) -> str:
        return images_identity({name: store.hashes.sha256(case.images[name]) for name in channels})

    def by_key(case: Case) -> str:
        return store.key(case.images, case.label, cohort.config.label_indices, run.plan.preprocessing)

    known = _known_images(run, trained)
    if known:
        return Recognised("images", _found(cohort.cases, known, by_images))
    keys = {case_id: str(entry["key"]) for case_id, entry in trained.items() if "key" in entry}
    return Recognised("prepared", _found(cohort.cases, keys, by_key)) if keys else Recognised("none", {})


def images_identity(sha256: Mapping[str, str]) -> str:
    """Return what tells a case by its images: the hashes of its channels, by their names."""
    return " ".join(f"{name}={sha256[name]}" for name in sorted(sha256))


def _known_images(run: RunFolder, trained: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return case of the training -> identity; empty where hashes are neither noted nor can be taken again."""
    noted = {case_id: entry.get("images") for case_id, entry in trained.items()}
    if noted and all(isinstance(images, dict) and images for images in noted.values()):
        return {case_id: images_identity(dict(images or {})) for case_id, images in noted.items()}
    folder = Path(str(run.manifest.get("cohort", {}).get("folder", "")))
    table = folder / "cohort.csv"
    if not table.is_file() or file_sha256(table) != run.manifest["hashes"].get("cohort.csv"):
        return {}
    store = Store(folder / STORE_NAME)
    channels = run.plan.preprocessing.channels
    try:
        cases = [case for case in load_cohort(folder).cases if case.case_id in trained]
        return {
            case.case_id: images_identity({name: store.hashes.sha256(case.images[name]) for name in channels})
            for case in cases
        }
    except (InputError, OSError, KeyError):
        # Scans that were moved since: the keys remain.
        return {}


def _found(
    cases: Iterable[Case], known: Mapping[str, str], identity: Callable[[Case], str]
) -> dict[str, tuple[str, ...]]:
    named: defaultdict[str, list[str]] = defaultdict(list)
    for case_id, told in known.items():
        named[told].append(case_id)
    found = {}
    for case in cases:
        try:
            same = named.get(identity(case), [])
        except (InputError, OSError, KeyError):
            # A file that cannot be read is refused, or left out and listed, when it is its turn.
            continue
        if same:
            found[case.case_id] = tuple(same)
    return found
