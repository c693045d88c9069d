"""The name of a file that is called after something in the data."""

import re


def file_stem(text: str, otherwise: str = "", most: int = 60) -> str:
    """Return letters and digits of a text with hyphens between them, which every file system takes.

    Args:
        text: Such as the name of a cohort.
        otherwise: What stands for a text without any letter of the Latin alphabet or digit.
        most: Characters.

    Example:
        >>> file_stem("Liver & Spleen (2024)"), file_stem("肝", "cohort")
        ('liver-spleen-2024', 'cohort')
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:most] or otherwise
