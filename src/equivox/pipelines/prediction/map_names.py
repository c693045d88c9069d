"""How the maps of probabilities are named, for those who write and those who read them."""

from typing import Final

PROBABILITIES: Final = "probabilities"
"""The folder of maps beside the label maps: one folder a case, one file ``<index>-<class>.nii.gz`` a class."""


def plain_name(name: str) -> str:
    """Return a class's name as a file name has it.

    Example:
        >>> plain_name("left kidney/cyst")
        'left_kidney_cyst'
    """
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in name)
