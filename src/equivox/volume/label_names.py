"""The names of classes that a label map carries in its own header."""

import re
from pathlib import Path
from typing import Final

from equivox.errors import InputError, one_line

_LABEL: Final = re.compile(r'<Label\s[^>]*?Key="(\d{1,9})"[^>]*>\s*<!\[CDATA\[([^\]<>]{1,120})\]\]>\s*</Label>')


def stored_label_names(path: Path) -> dict[int, str]:
    """Return value -> name as the header of a NIfTI label map has them; empty where it has none.

    Connectome Workbench and TotalSegmentator write them there, as a table in XML. Nothing but that table is read, and
    a name that comes twice is not told.

    Args:
        path: A mask of any format.

    Raises:
        InputError: If a NIfTI file cannot be read.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return {}
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    try:
        extensions = nib.load(path).header.extensions
    except (OSError, ValueError, ImageFileError) as error:
        msg = f"{path}: expected a NIfTI file, got {one_line(error)}; mend or remove it"
        raise InputError(msg) from None
    for extension in extensions:
        content = extension.get_content()
        text = content.decode("utf-8", errors="replace") if isinstance(content, bytes) else str(content)
        rows = [(int(value), " ".join(name.split())) for value, name in _LABEL.findall(text)]
        names = {value: name for value, name in rows if value and name}
        if names:
            return names if len(set(names.values())) == len(names) else {}
    return {}
