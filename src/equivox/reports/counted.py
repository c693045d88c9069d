"""Numbers of things, in the singular and the plural."""

from collections.abc import Mapping
from typing import Any


def counted(count: int, noun: str, one: str = "", many: str = "") -> str:
    """Return a number with its noun, and with what is said of one or of many.

    Example:
        >>> counted(1, "patient"), counted(1234, "patient")
        ('1 patient', '1,234 patients')
        >>> counted(1, "case", "has no score", "have no score"), counted(2, "case", "has no score", "have no score")
        ('1 case has no score', '2 cases have no score')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'} {one if count == 1 else many}".rstrip()


def patients_and_cases(counts: Mapping[str, Any]) -> str:
    """Return how many patients and cases there are.

    Example:
        >>> patients_and_cases({"patients": 1, "cases": 2})
        '1 patient, 2 cases'
    """
    return f"{counted(counts['patients'], 'patient')}, {counted(counts['cases'], 'case')}"
