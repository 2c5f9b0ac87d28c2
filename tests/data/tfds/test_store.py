"""Which folder of a data_dir is opened, and what becomes of a damaged one."""

import json
import os
import shutil

import pytest

from tests.data.tfds_sets import (
    edit,
    index_files,
    open_set,
)
from tests.faults import refused


@pytest.mark.parametrize("split", ["test", "train[", "", "train+test", "train[:0]"])
def test_a_split_that_is_not_there_is_said_with_those_that_are(make_set, split):
    with refused("^split '.*' of .*mine/1.0.0$") as caught:
        open_set(make_set(), split=split)
    assert caught.value.expected == "one of train (2 images)"


def test_a_set_that_is_not_there_is_said_with_the_command_that_prepares_it(make_set, tmp_path):
    data_dir = make_set()
    with refused(f"^{data_dir}$", "^mine$") as caught:
        open_set(data_dir, "coco/2017:1.1.0")
    assert caught.value.remedy == f"lga_jax prepare coco/2017 --data_dir {data_dir}"
    with refused(f"^{data_dir}$", "^mine$") as caught:
        open_set(data_dir, "minn")
    assert caught.value.remedy.startswith("did you mean 'mine'?")
    with refused("nowhere$", "^none$"):
        open_set(tmp_path / "nowhere")


def test_the_newest_version_is_taken_unless_one_is_named(make_set):
    data_dir = make_set()
    for version in ("1.10.0", "1.9.0", "incomplete.A1B2C3_2.0.0"):
        shutil.copytree(data_dir / "mine" / "1.0.0", data_dir / "mine" / version)
    assert open_set(data_dir)._split.folder.name == "1.10.0"
    assert open_set(data_dir, "mine:1.9.0")._split.folder.name == "1.9.0"


FAULTS = {
    "tfrecord": (
        lambda folder: edit(folder / "dataset_info.json", '"array_record"', '"tfrecord"'),
        "1.0.0$",
        "^tfrecord$",
    ),
    "no features": (lambda folder: (folder / "features.json").unlink(), "^metadata of .*1.0.0$", "damaged"),
    "no JSON": (lambda folder: (folder / "dataset_info.json").write_text("{"), "^metadata of ", "damaged"),
    "other JSON": (lambda folder: (folder / "features.json").write_text("[1]"), "^metadata of ", "damaged"),
    "class names": (
        lambda folder: (folder / "objects-label.labels.txt").unlink(),
        "objects-label.labels.txt$",
        "^none$",
    ),
    "category ids": (
        lambda folder: (folder / "metadata.json").write_text('{"category_ids": [1]}'),
        "train$",
        r"zip\(\) argument 2 is longer than argument 1",
    ),
    "shard missing": (
        lambda folder: next(folder.glob("*record-*")).unlink(),
        "train$",
        "No such file",
    ),
    "shard cut": (
        lambda folder: os.truncate(next(folder.glob("*record-*")), 65536),
        "train: example 0$",
        "damaged",
    ),
    "shard garbage": (
        lambda folder: next(folder.glob("*record-*")).write_bytes(b"\xa5" * 200_000),
        "train: example 0$",
        "Corrupted",
    ),
    "shard short": (
        lambda folder: edit(folder / "dataset_info.json", '"2"', '"3"'),
        "train: example 2$",
        "index 2 out of bound 2",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_said_in_one_line(make_set, fault):
    spoil, subject, found = FAULTS[fault]
    data_dir = make_set()
    index_files(data_dir)[0].unlink()
    spoil(data_dir / "mine" / "1.0.0")
    with refused(subject, found):
        open_set(data_dir)


def test_damage_behind_a_sound_index_is_said_where_it_is_met(make_set):
    data_dir = make_set()
    source = open_set(data_dir)
    os.truncate(next((data_dir / "mine" / "1.0.0").glob("*record-*")), 65536)
    with refused("train: example 1$", "damaged"):
        source.image(1)


@pytest.mark.parametrize("nested", [False, True])
def test_no_module_that_the_data_name_is_imported(make_set, tmp_path, monkeypatch, nested):
    (tmp_path / "harmful.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    data_dir = make_set()
    path = data_dir / "mine" / "1.0.0" / "features.json"
    content = json.loads(path.read_text())
    features = content["featuresDict"]["features"]
    if nested:  # the older form, JSON within JSON
        harmful = {"type": "harmful.Feature", "content": {}}
        features["image/filename"] = {
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "jsonFeature": {"json": json.dumps({"feature": harmful, "length": None})},
        }
    else:
        features["image/filename"]["pythonClassName"] = "harmful.Feature"
    path.write_text(json.dumps(content))
    with refused("features.json$", "'harmful.Feature'"):
        open_set(data_dir)
