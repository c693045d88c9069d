"""Which file format a path has, told by its suffix."""

from pathlib import Path
from typing import Literal

from equivox.errors import InputError

Format = Literal["nifti", "mha", "nrrd", "picture", "dicom"]

SUFFIXES: dict[str, Format] = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".hdr.gz": "nifti",
    ".hdr": "nifti",
    ".img.gz": "nifti",
    ".img": "nifti",
    ".mha": "mha",
    ".mhd": "mha",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".tif": "picture",
    ".tiff": "picture",
    ".dcm": "dicom",
}
"""Every suffix that can be read; a folder is read as a DICOM series."""

_WRITABLE = (".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".tif", ".tiff")
_DICOM_MARK = 128  # "DICM" follows a preamble of this many bytes


def suffix_of(path: Path) -> str:
    """Return the suffix that decides the format, in lower case, or ``""`` where it is not a known one.

    Example:
        >>> suffix_of(Path("scan.v2.NII.GZ"))
        '.nii.gz'
    """
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def format_to_read(path: Path) -> Format:
    """Return the format of an existing file or folder.

    Raises:
        InputError: If there is no such file, it is empty, or its suffix is not known.
    """
    if path.is_dir():
        return "dicom"
    if not path.exists():
        msg = f"{path}: no such file; check the path"
        raise InputError(msg)
    if path.stat().st_size == 0:
        msg = f"{path}: expected an image, got an empty file; copy or download it again"
        raise InputError(msg)
    suffix = suffix_of(path)
    if suffix:
        return SUFFIXES[suffix]
    # DICOM files often have no suffix, or what looks like one: CT.1.2.840.
    if is_dicom(path):
        return "dicom"
    known = ", ".join(SUFFIXES)
    msg = f"{path}: expected a file named {known} or a folder of DICOM slices; convert it or mend its name"
    raise InputError(msg)


def format_to_write(path: Path) -> Format:
    """Return the format in which to write a file.

    Raises:
        InputError: If the suffix is not one that can be written whole and without loss.
    """
    suffix = suffix_of(path)
    if suffix not in _WRITABLE:
        got = f"'{suffix}'" if suffix else f"'{path.name}'"
        msg = f"{path}: expected a name that ends in {', '.join(_WRITABLE)}, got {got}; choose another name"
        raise InputError(msg)
    return SUFFIXES[suffix]


def is_dicom(path: Path) -> bool:
    """Tell whether a file has the mark of DICOM after its preamble."""
    with path.open("rb") as stream:
        return stream.read(_DICOM_MARK + 4)[_DICOM_MARK:] == b"DICM"
