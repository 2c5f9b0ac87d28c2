"""What is kept of a split beside its data, and when it is read again."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lga_jax.data.tfds import index as tfds_index
from lga_jax.data.tfds.split import TfdsSplit
from tests.data.conftest import truth
from tests.data.tfds_sets import OBJECTS, box, index_files, jpeg, open_set, write_set


def test_an_image_of_unknown_size_is_left_out_and_counted(tmp_path):
    annotated = [{"bbox": box(0.0, 0.0, 1.0, 1.0), "label": 1}]
    images = [jpeg(8, 9), b"", b"no image", jpeg(10, 11)]
    write_set(tmp_path, "mine", OBJECTS, [{"image": image, "objects": annotated} for image in images])
    source = open_set(tmp_path)
    assert [(record.image_id, record.width) for record in source.records] == [("0", 9), ("3", 11)]
    assert [source.image(index).shape[1] for index in range(2)] == [9, 11]
    assert source.report[-1] == "2 images of unknown size: left out, also from evaluation"
    assert [annotation["image_id"] for annotation in source.truth()["annotations"]] == ["0", "3"]


def test_images_are_read_once_and_then_an_index_beside_them(make_set, monkeypatch):
    data_dir = make_set()  # opens it, so the index is there
    before = open_set(data_dir)
    assert len(index_files(data_dir)) == 1
    monkeypatch.setattr(TfdsSplit, "row", None)
    after = open_set(data_dir)
    assert (after.fingerprint, after.report) == (before.fingerprint, before.report)
    assert after.truth() == before.truth()


def test_the_index_goes_to_the_cache_where_the_data_are_write_protected(make_set, monkeypatch, tmp_path, caplog):
    data_dir = make_set()
    index_files(data_dir)[0].unlink()
    save = tfds_index._save
    monkeypatch.setattr(tfds_index, "_save", lambda path, *index: data_dir not in path.parents and save(path, *index))
    before = open_set(data_dir)
    assert index_files(data_dir) == []
    assert len(index_files(tmp_path / "cache" / "lga_jax")) == 1
    monkeypatch.setattr(TfdsSplit, "row", None)
    assert open_set(data_dir).fingerprint == before.fingerprint
    assert caplog.text == ""


def test_where_no_index_can_be_kept_it_is_said(make_set, monkeypatch, caplog):
    data_dir = make_set()
    index_files(data_dir)[0].unlink()
    monkeypatch.setattr(tfds_index.Path, "replace", _raise_os_error)
    assert len(open_set(data_dir).records) == 2
    assert "its index cannot be written" in caplog.text
    assert [path.name for path in data_dir.rglob("index_*")] == []  # no unfinished file stays


def _raise_os_error(*_: object) -> None:
    raise OSError("no space")


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 no archive", None, "method"])
def test_a_damaged_index_is_built_again(make_set, damage, caplog):
    data_dir = make_set()
    path, before = index_files(data_dir)[0], open_set(data_dir).fingerprint
    if damage is None:
        np.savez(path, image=np.arange(3))
    elif damage == "method":  # of compression: one that no reader knows
        data = bytearray(path.read_bytes())
        data[data.rindex(b"PK\1\2") + 10] = 77
        path.write_bytes(data)
    else:
        path.write_bytes(damage)
    assert open_set(data_dir).fingerprint == before
    assert "damaged, built again" in caplog.text
    with np.load(path) as file:
        assert set(file) == {*tfds_index.Index._fields, "digest"}


def _forge(data_dir, digest=None, **columns):
    """Writes an index with other columns and their digest, as somebody could who knows this code."""
    path = index_files(data_dir)[0]
    with np.load(path) as file:
        index = tfds_index.Index(**({name: file[name] for name in file if name != "digest"} | columns))
    split = TfdsSplit("mine", str(data_dir), "train")
    np.savez(path, **index._asdict(), digest=np.array(digest or tfds_index._digest(index, split)))


FORGED = [
    dict(number=np.array([0, 2])),
    dict(number=np.array([-1, 1])),
    dict(number=np.array([1, 1])),
    dict(number=np.array([0.0, 1.0])),
    dict(number=np.array([0])),
    dict(image_id=np.array(["a"])),
    dict(file_name=np.array([1, 2])),
    dict(hw=np.array([[48, 64], [0, 64]])),
    dict(hw=np.array([[48, 64], [2**40, 2**40]])),
    dict(hw=np.array([[48, 64, 3]] * 2)),
    dict(num_objects=np.array([2**40, 1])),
    dict(num_objects=np.array([-1, 10])),
    dict(boxes_original=np.zeros((1, 4))),
    dict(labels=np.zeros(10**6, np.int32)),
    dict(crowd=np.zeros(3, np.int64)),
    dict(areas=np.zeros((3, 2))),
    dict(number=np.array(0)),
]


def test_a_forged_index_is_not_believed(make_set, caplog):
    data_dir = make_set()
    before = open_set(data_dir).fingerprint
    for columns in FORGED:
        caplog.clear()
        _forge(data_dir, **columns)
        assert open_set(data_dir).fingerprint == before
        assert "damaged, built again" in caplog.text, columns


def test_an_index_of_other_data_is_not_believed(make_set, caplog):
    """Its columns fit, its digest does not."""
    data_dir = make_set()
    before = open_set(data_dir).fingerprint
    _forge(data_dir, hw=np.array([[480, 640], [48, 64]]), digest="0" * 64)
    assert open_set(data_dir).fingerprint == before
    assert "digest" in caplog.text


def test_an_index_replaces_a_link(make_set, tmp_path):
    data_dir = make_set()
    path = index_files(data_dir)[0]
    path.unlink()
    (tmp_path / "precious").write_text("kept")
    path.symlink_to(tmp_path / "precious")
    open_set(data_dir)
    assert (tmp_path / "precious").read_text() == "kept" and not path.is_symlink()


def test_nothing_in_an_index_is_unpickled(make_set, tmp_path):
    data_dir = make_set()
    path = index_files(data_dir)[0]
    with np.load(path) as file:
        columns = dict(file)
    columns["image_id"] = np.array([_Marks(str(tmp_path / "ran"))] * 2, object)
    np.savez(path, **columns)
    assert len(open_set(data_dir).records) == 2
    assert not (tmp_path / "ran").exists()


class _Marks:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (Path(self.path),)


def test_a_set_prepared_anew_gets_a_new_index_and_fingerprint(make_set, tmp_path):
    before = open_set(make_set()).fingerprint
    moved = shutil.copytree(tmp_path / "tfds", tmp_path / "elsewhere")
    assert open_set(moved).fingerprint == before
    shutil.rmtree(tmp_path / "tfds")
    content = truth()
    content["annotations"][0]["bbox"] = [11, 5, 20, 30]  # the files keep their sizes
    assert open_set(make_set(content)).fingerprint != before
