from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from equivox.datasets.cohort import AttributeConfig, ChannelConfig, Cohort, CohortConfig
from equivox.pipelines.auditing.sources import AuditSource, HeldOutCase


def _make_source(
    patients: int,
    groups: Mapping[str, Mapping[str, str]],
    *,
    folds: tuple[int, ...] = (0,),
    site: str | None = None,
    shortcuts: tuple[str, ...] = (),
    targets: Mapping[str, Any] | None = None,
) -> AuditSource:
    names = [f"p{number:03d}" for number in range(patients)]
    columns: dict[str, list[str]] = {"case_id": names, "patient_id": names}
    columns |= {"image:mr": [f"{name}.nii.gz" for name in names], "label": [f"{name}_l.nii.gz" for name in names]}
    columns |= {attribute: [known.get(name, "") for name in names] for attribute, known in groups.items()}
    config = CohortConfig(
        name="toy",
        channels={"mr": ChannelConfig()},
        classes={"tumour": 1},
        label_values={0: "background", 1: "tumour"},
        attributes={attribute: AttributeConfig() for attribute in groups},
    )
    cohort = Cohort(Path("/nowhere"), config, pd.DataFrame(columns))
    cases = tuple(HeldOutCase(case, "test", folds) for case in cohort.cases)
    probed = {name: known for name, known in groups.items() if name not in shortcuts}
    return AuditSource(
        cohort=cohort,
        cases=cases,
        folds=folds,
        attributes={name: config.attributes[name] for name in probed},
        targets={**probed, **(targets or {})},
        groups=probed,
        sites={name: groups[site].get(name) for name in names} if site else {},
        differing={},
        trained_on=0,
        shortcuts={name: groups[name] for name in shortcuts},
        renamed=(),
        evidence="none",
    )


@pytest.fixture(scope="session")
def make_source() -> Callable[..., AuditSource]:
    """Make held-out patients p000, p001, ... of one scan each: ``make_source(30, {"sex": {"p000": "F", ...}})``."""
    return _make_source
