"""YOLO's folders: layouts, rows, and one error for each fault."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lga_jax.data.coco.source import CocoJson
from lga_jax.data.convert.yolo import read_yolo
from lga_jax.errors import UserError
from lga_jax.files import write_json

ROWS = {"a": "1 0.5 0.5 0.25 0.5\n\n0 0.1 0.1 0.3 0.1 0.3 0.4\n", "b": ""}  # a box and a triangle
NAMES = "names: [cat, dog]\n"


def _make(root: Path, images: str, labels: str, data_yaml: str, rows: dict[str, str] = ROWS) -> Path:
    for folder in (images, labels):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in rows.items():
        cv2.imwrite(str(root / images / f"{name}.png"), np.zeros((40, 80, 3), np.uint8))
        if text:
            (root / labels / f"{name}.txt").write_text(text)
    (root / "data.yaml").write_text(data_yaml)
    return root / "data.yaml"


@pytest.mark.parametrize(
    ("images", "labels", "data_yaml"),
    [
        ("images/train", "labels/train", "train: images/train\nnames: {0: cat, 1: dog}\n"),
        ("images/train", "labels/train", "path: .\ntrain: [images/train]\nnc: 2\n" + NAMES),
        ("images/train", "labels/train", "path: ../datasets/elsewhere\ntrain: images/train\n" + NAMES),
        ("train/images", "train/labels", "train: ../train/images\n" + NAMES),
        ("images/train", "labels/train", "train: list.txt\n" + NAMES),
        ("flat", "flat", "train: flat\n" + NAMES),
    ],
)
def test_each_layout_gives_the_same_boxes(tmp_path, images, labels, data_yaml):
    data_yaml = _make(tmp_path / "set", images, labels, data_yaml)
    (tmp_path / "set" / "list.txt").write_text(f"./{images}/a.png\n{images}/b.png\n")
    converted = read_yolo(data_yaml, "train")
    assert converted.images == tmp_path / "set" / images
    assert [image["file_name"] for image in converted.content["images"]] == ["a.png", "b.png"]
    assert [category["name"] for category in converted.content["categories"]] == ["cat", "dog"]
    assert [(a["image_id"], a["category_id"]) for a in converted.content["annotations"]] == [(1, 2), (1, 1)]
    boxes = [annotation["bbox"] for annotation in converted.content["annotations"]]
    np.testing.assert_allclose(boxes, [[30, 10, 20, 20], [8, 4, 16, 12]])
    assert len(converted.notes) == 3  # counts, an image without a text file, a polygon
    write_json(tmp_path / "train.json", converted.content)
    source = CocoJson(str(converted.images), str(tmp_path / "train.json"), ".", skip_empty=False)
    assert [len(record.labels) for record in source.records] == [2, 0] and source.image(0).shape == (40, 80, 3)


@pytest.mark.parametrize(
    ("data_yaml", "row", "subject"),
    [
        ("train: images\nnames: cat\n", ROWS["a"], "data.yaml: names"),
        ("train: images\nnames: {1: cat}\n", ROWS["a"], "data.yaml: names"),
        ("train: images\nnames: {999999999999: cat}\n", ROWS["a"], "data.yaml: names"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{n}: &{n} [{', '.join(['*' + p] * 9)}]\n" for p, n in zip("abcdefghij", "bcdefghijk", strict=True)
            )
            + "names: *k\n",
            ROWS["a"],
            "data.yaml: names",
        ),
        ("train: [1]\n" + NAMES, ROWS["a"], "data.yaml: train"),
        ("val: images\n" + NAMES, ROWS["a"], "data.yaml: train"),
        ("train: nowhere\n" + NAMES, ROWS["a"], "data.yaml: 'nowhere'"),
        ("[", ROWS["a"], "data.yaml"),
        ("text", ROWS["a"], "data.yaml"),
        ("train: !!python/object/apply:os.getcwd []\n", ROWS["a"], "data.yaml"),
        ("train: images\n" + NAMES, "1 0.5 0.5 0.2\n", "a.txt: line 1"),
        ("train: images\n" + NAMES, "1 0.5 0.5 0.2 0.2 0.9\n", "a.txt: line 1"),
        ("train: images\n" + NAMES, "0 .5 .5 .1 .1\ncat 0.5 0.5 0.2 0.2\n", "a.txt: line 2"),
        ("train: images\n" + NAMES, "2 0.5 0.5 0.2 0.2\n", "a.txt: line 1"),
        ("train: images\n" + NAMES, "0 40 20 10 10\n", "a.txt: line 1"),
        ("train: images\n" + NAMES, "0 nan .5 .1 .1\n", "a.txt: line 1"),
    ],
)
def test_each_fault_is_named_with_its_place(tmp_path, data_yaml, row, subject):
    data_yaml = _make(tmp_path, "images", "labels", data_yaml, {"a": row})
    with pytest.raises(UserError) as caught:
        read_yolo(data_yaml, "train")
    assert caught.value.subject.endswith(subject) and len(str(caught.value).splitlines()) == 1
