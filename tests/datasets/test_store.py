"""The store: keys that follow content, whole entries, and damage that is found."""

import json
import logging
import os
import pickle

import numpy as np
import pytest

from equivox.datasets import store as module
from equivox.datasets.centreline_tube import centreline_tubes
from equivox.datasets.plan import IntensityPlan, PreprocessingPlan
from equivox.datasets.prepare import PreparedCase, PreparedGeometry
from equivox.datasets.store import Store
from equivox.errors import InputError

PLAN = PreprocessingPlan(
    channels=("ct",), intensity={"ct": IntensityPlan(scheme="keep")}, resample_channels={"ct": "same_grid"}
)


def case(shape=(40, 35, 11), label=True) -> PreparedCase:
    random = np.random.default_rng(0)
    labels = (random.random(shape) > 0.9).astype(np.int16) * 2 if label else None
    geometry = PreparedGeometry(
        shape, np.diag([0.5, 1.0, 3.0, 1.0]), "RAS", shape, (0, 0, 0), shape, shape, (0.5, 1.0, 3.0)
    )
    return PreparedCase(random.normal(size=(2, *shape)).astype(np.float32), labels, geometry)


@pytest.fixture
def files(tmp_path):
    image, label = tmp_path / "ct.nii", tmp_path / "label.nii"
    image.write_bytes(b"image")
    label.write_bytes(b"label")
    return {"ct": image}, label


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def test_what_was_written_is_read_back_exactly(store) -> None:
    written = case()
    store.write("a" * 32, written)
    read = store.read("a" * 32)
    np.testing.assert_array_equal(read.image[...], written.image)
    np.testing.assert_array_equal(np.asarray(read.label), written.label)
    assert read.image.shape == (2, 40, 35, 11)
    assert read.image.dtype == np.float32
    for name in PreparedGeometry.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(read.geometry, name), getattr(written.geometry, name))


def test_a_part_is_sliced_as_numpy_would(store) -> None:
    written = case()
    store.write("k", written)
    image = store.read("k").image
    np.testing.assert_array_equal(image[:, 3:30, 7:9, 10], written.image[:, 3:30, 7:9, 10])


def test_a_stored_case_can_be_sent_to_another_process(store) -> None:
    store.write("k", case())
    read = store.read("k")
    first = read.image[0, 0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(read)).image[0, 0], first)  # noqa: S301


def test_sampled_voxels_have_their_class(store) -> None:
    written = case()
    assert written.label is not None
    store.write("k", written)
    voxels = store.read("k").class_voxels
    assert list(voxels) == [2]
    assert len(voxels[2]) == (written.label == 2).sum()
    assert (written.label[tuple(voxels[2].T)] == 2).all()


def test_of_many_voxels_a_sample_is_kept(store) -> None:
    whole = case((30, 30, 30))
    label = np.ones((30, 30, 30), dtype=np.int16)
    store.write("k", PreparedCase(whole.image, label, whole.geometry))
    voxels = store.read("k").class_voxels[1]
    assert len(np.unique(voxels, axis=0)) == len(voxels) == 10_000
    # Spread over the whole: the mean of uniform positions 0..29 is 14.5, give or take 0.09.
    np.testing.assert_allclose(voxels.mean(axis=0), 14.5, atol=0.5)


def test_one_voxel_and_no_label(store) -> None:
    store.write("k", case((1, 1, 1), label=False))
    read = store.read("k")
    assert read.label is None
    assert read.class_voxels == {}
    assert read.image[...].shape == (2, 1, 1, 1)


def test_the_key_follows_content_mapping_and_plan_but_not_the_name(store, files, tmp_path) -> None:
    images, label = files
    key = store.key(images, label, {0: 0, 1: 1}, PLAN)
    copy = tmp_path / "copy.nii"
    copy.write_bytes(b"image")
    assert store.key({"ct": copy}, label, {0: 0, 1: 1}, PLAN) == key
    copy.write_bytes(b"other")
    changed = [
        store.key({"ct": copy}, label, {0: 0, 1: 1}, PLAN),
        store.key(images, copy, {0: 0, 1: 1}, PLAN),
        store.key(images, None, {0: 0, 1: 1}, PLAN),
        store.key(images, label, {0: 0, 1: 2}, PLAN),
        store.key(images, label, {0: 0, 1: 1}, PLAN.model_copy(update={"image_interpolation": "linear"})),
    ]
    assert len({key, *changed}) == 6


def test_a_file_is_hashed_once_and_again_when_it_changed(store, files, monkeypatch) -> None:
    images, label = files
    key = store.key(images, label, {0: 0}, PLAN)
    store.hashes.save()
    again = Store(store.folder)
    monkeypatch.setattr("equivox.datasets.store.file_sha256", lambda path: pytest.fail("hashed again"))
    assert again.key(images, label, {0: 0}, PLAN) == key
    monkeypatch.undo()
    images["ct"].write_bytes(b"imagE")
    os.utime(images["ct"], ns=(1, 1))
    assert Store(store.folder).key(images, label, {0: 0}, PLAN) != key


def test_remembered_hashes_that_are_none_are_made_anew(store, files) -> None:
    images, label = files
    key = store.key(images, label, {0: 0}, PLAN)
    store.hashes.save()
    path = store.hashes.path
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), 5)))
    assert Store(store.folder).key(images, label, {0: 0}, PLAN) == key


def test_a_missing_file_is_named(store, files) -> None:
    images, label = files
    images["ct"].unlink()
    with pytest.raises(InputError, match=r"ct\.nii: no such file"):
        store.key(images, label, {0: 0}, PLAN)


def flip_a_byte(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "image.b2nd").unlink(), "is missing"),
        (lambda folder: (folder / "label.b2nd").write_bytes(b"short"), "bytes"),
        (lambda folder: flip_a_byte(folder / "image.b2nd"), "checksum"),
        (lambda folder: (folder / "case.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "case.json").write_text('{"files": {"image.b2nd": {}}}'), "cannot be read"),
        (lambda folder: (folder / "case.json").write_text('{"files": {"image.b2nd": 5}}'), "cannot be read"),
    ],
)
def test_a_damaged_entry_is_taken_away_with_a_line_in_the_log(store, caplog, damage, reason) -> None:
    store.write("k", case())
    assert store.has("k")
    damage(store.folder / "k")
    with caplog.at_level(logging.WARNING, "equivox"):
        assert not store.has("k")
    assert reason in caplog.text
    assert not (store.folder / "k").exists()


def test_damage_that_left_the_time_of_change_is_found_when_verifying(store) -> None:
    store.write("k", case())
    path = store.folder / "k" / "image.b2nd"
    before = path.stat()
    flip_a_byte(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.has("k")
    assert not store.has("k", verify=True)


def test_a_copied_store_is_still_whole(store) -> None:
    store.write("k", case())
    os.utime(store.folder / "k" / "image.b2nd", ns=(1, 1))
    assert store.has("k")


def test_a_broken_write_leaves_nothing(store, monkeypatch) -> None:
    monkeypatch.setattr("equivox.datasets.store._write_voxels", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        store.write("k", case())
    assert list(store.folder.iterdir()) == []


def test_reading_what_is_not_there_says_what_to_run(store) -> None:
    with pytest.raises(InputError, match=r"no such prepared case; run 'equivox preprocess'"):
        store.read("nothing")


def test_nothing_in_an_entry_is_a_pickle(store) -> None:
    store.write("k", case())
    sidecar = json.loads((store.folder / "k" / "case.json").read_text())
    assert set(sidecar["files"]) == {"image.b2nd", "label.b2nd", "voxels.npz"}
    with np.load(store.folder / "k" / "voxels.npz", allow_pickle=False) as archive:
        assert archive["2"].dtype == np.int16


def test_tubes_are_made_once_and_belong_to_the_case_and_the_slices(store, monkeypatch) -> None:
    store.write("k", case())
    label = np.asarray(store.read("k").label)
    tubes = store.tubes("k")
    np.testing.assert_array_equal(tubes[...], centreline_tubes(label))
    assert tubes.dtype == label.dtype
    np.testing.assert_array_equal(store.tubes("k", 1)[...], centreline_tubes(label, 1))
    keys = {store.tubes_key("k"), store.tubes_key("k", 1), store.tubes_key("k", 2), store.tubes_key("other")}
    assert len(keys) == 4
    assert [store.has(key) for key in (store.tubes_key("k"), store.tubes_key("k", 2))] == [True, False]
    monkeypatch.setattr(module, "centreline_tubes", lambda *_: pytest.fail("made again"))
    np.testing.assert_array_equal(store.tubes("k")[...], tubes[...])


def test_damaged_tubes_are_made_again(store) -> None:
    store.write("k", case())
    wanted = store.tubes("k")[...]
    flip_a_byte(store.folder / store.tubes_key("k") / "tubes.b2nd")
    np.testing.assert_array_equal(store.tubes("k")[...], wanted)


def test_a_case_without_a_label_has_no_tubes(store) -> None:
    store.write("k", case(label=False))
    with pytest.raises(InputError, match="expected a case with a label, got one without"):
        store.tubes("k")
    with pytest.raises(InputError, match="no such prepared case"):
        store.tubes("other")
