from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from equivox.errors import InputError
from equivox.volume.label_names import stored_label_names

HEAD = '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension> <VolumeInformation Index="0"> <LabelTable>'
TAIL = "</LabelTable></VolumeInformation></CaretExtension>"


def labelled(value: int, name: str) -> str:
    return f'<Label Key="{value}" Red="0.0" Green="1.0" Blue="0.0" Alpha="1"><![CDATA[{name}]]></Label>\n'


def mask_with(path: Path, text: str | None) -> Path:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), dtype=np.uint8), np.diag([1.0, 2.0, 3.0, 1.0]))
    if text is not None:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, text.encode("utf-8")))
    nib.save(image, path)
    return path


def test_names_of_the_header_are_told_by_value(tmp_path: Path) -> None:
    text = HEAD + labelled(0, "???") + labelled(1, "spleen") + labelled(50, "vertebrae C1") + TAIL
    assert stored_label_names(mask_with(tmp_path / "a.nii.gz", text)) == {1: "spleen", 50: "vertebrae C1"}


@pytest.mark.parametrize("text", [None, "a comment", HEAD + TAIL, HEAD + labelled(1, "x") + labelled(2, "x") + TAIL])
def test_a_header_without_a_table_of_distinct_names_tells_nothing(tmp_path: Path, text: str | None) -> None:
    assert stored_label_names(mask_with(tmp_path / "a.nii", text)) == {}


def test_markup_and_entities_in_a_name_are_not_taken(tmp_path: Path) -> None:
    text = '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + HEAD + labelled(1, "<img src=x>") + labelled(2, "&a;") + TAIL
    assert stored_label_names(mask_with(tmp_path / "a.nii", text)) == {2: "&a;"}


def test_other_formats_tell_nothing_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert stored_label_names(tmp_path / "mask.nrrd") == {}
    (tmp_path / "b.nii").write_bytes(b"no header")
    with pytest.raises(InputError, match=r"b.nii: expected a NIfTI file"):
        stored_label_names(tmp_path / "b.nii")
