"""The columns of a case table that hold what is known of the patients."""

from typing import Final

import pandas as pd

from equivox.metrics.fairness.groups import one_group_per_patient

GROUP_PREFIX: Final = "attribute:"
"""Before the name of an attribute: the group of the patient."""

NUMBER_PREFIX: Final = "number:"
"""Before the name of a continuous attribute: the patient's number."""


def patient_groups(rows: pd.DataFrame, attribute: str) -> dict[str, str | None]:
    """Return patient -> group, in the order of the patients' first cases; None where it is unknown or contradicted.

    Args:
        rows: One row or more a case, with `case_id`, `patient_id` and the column of the attribute.
        attribute: Its name.

    Example:
        >>> rows = pd.DataFrame({"case_id": [1, 2, 3], "patient_id": ["p", "p", "q"]})
        >>> rows["attribute:sex"] = ["F", "F", None]
        >>> patient_groups(rows, "sex")
        {'p': 'F', 'q': None}
    """
    cases = rows.drop_duplicates("case_id")
    values = [None if pd.isna(value) else str(value) for value in cases[GROUP_PREFIX + attribute]]
    return one_group_per_patient(cases["patient_id"].tolist(), values)[0]
