"""Pascal VOC's XML: both layouts, both meanings of pixels, and one error for each fault."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lga_jax.data.coco.source import CocoJson
from lga_jax.data.convert.voc import open_voc
from lga_jax.errors import UserError
from lga_jax.files import write_json

SIZE = "<size><width>80</width><height>40</height><depth>3</depth></size>"
DOG = "<object><name>dog</name><bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>25</ymax></bndbox></object>"
CAT = DOG.replace("dog", "cat").replace("<bndbox>", "<difficult>1</difficult><bndbox>")


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((40, 80, 3), np.uint8))


def _xml(path: Path, inside: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{inside}</annotation>")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC's layout: a in train, b in val, each with another class."""
    for name, split, objects in (("a", "train", DOG), ("b", "val", CAT)):
        _image(tmp_path / "JPEGImages" / f"{name}.jpg")
        _xml(tmp_path / "Annotations" / f"{name}.xml", f"<filename>{name}.jpg</filename>{SIZE}{objects}")
        (tmp_path / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{name}  1\n")
    return tmp_path


@pytest.mark.parametrize(("pixels", "bbox"), [("voc", [10, 5, 20, 20]), ("edges", [11, 6, 19, 19])])
def test_the_layout_of_voc(voc, pixels, bbox):
    folder = open_voc(voc, pixels)
    train, val = folder.split("train"), folder.split("val")
    assert folder.class_names == ["cat", "dog"] and train.content["categories"] == val.content["categories"]
    assert train.images == voc / "JPEGImages" and train.content["images"][0]["file_name"] == "a.jpg"
    assert [(a["category_id"], a["bbox"], a["iscrowd"]) for a in train.content["annotations"]] == [(2, bbox, 0)]
    assert [(a["category_id"], a["iscrowd"]) for a in val.content["annotations"]] == [(1, 1)]
    write_json(voc / "train.json", train.content)
    assert CocoJson(str(voc), "train.json", "JPEGImages", skip_empty=False).image(0).shape == (40, 80, 3)


@pytest.mark.parametrize(
    ("written", "pixels", "warned"),
    [("0", "voc", True), ("10.5", "voc", True), ("11.0", "voc", False), ("10.5", "edges", False)],
)
def test_numbers_that_cannot_be_pixels_of_voc_are_told(voc, written, pixels, warned):
    path = voc / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<xmin>11", f"<xmin>{written}"))
    notes = open_voc(voc, pixels).split("train").notes
    assert any("1 box" in note and "--pixels edges" in note for note in notes) == warned


def test_the_layout_of_roboflow_without_a_size_and_with_another_name(tmp_path):
    _image(tmp_path / "train" / "a.PNG")
    _image(tmp_path / "train" / "without.png")
    _xml(tmp_path / "train" / "a.xml", f"<filename>other.jpg</filename><size><width>0</width></size>{DOG}")
    train = open_voc(tmp_path, "voc").split("train")
    assert train.content["images"] == [{"id": 1, "file_name": "a.PNG", "height": 40, "width": 80}]
    assert any("without an XML file" in line for line in train.notes)


ENTITIES = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation><filename>&c;</filename></annotation>'


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (f"<annotation>{DOG.replace('<name>dog</name>', '')}</annotation>", "a.xml: object"),
        (f"<annotation>{DOG.replace('11', 'x')}</annotation>", "a.xml: bndbox"),
        (f"<annotation>{DOG.replace('11', 'inf')}</annotation>", "a.xml: bndbox"),
        ("<annotation>", "a.xml"),
        ("", "a.xml"),
        (ENTITIES, "a.xml"),
    ],
)
def test_each_fault_is_named_with_its_place(voc, text, subject):
    (voc / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(UserError) as caught:
        open_voc(voc, "voc").split("train")
    assert caught.value.subject.endswith(subject) and len(str(caught.value).splitlines()) == 1


def test_what_is_missing_is_named(voc, tmp_path):
    with pytest.raises(UserError) as caught:
        open_voc(voc, "voc").split("test")
    assert caught.value.subject == "--split test"
    (voc / "JPEGImages" / "a.jpg").rename(voc / "JPEGImages" / "c.jpg")
    with pytest.raises(UserError) as caught:
        open_voc(voc, "voc").split("train")
    assert caught.value.subject.endswith("a.xml") and "a.jpg" in caught.value.found
    (voc / "Annotations" / "b.xml").unlink()
    with pytest.raises(UserError) as caught:
        open_voc(voc, "voc").split("val")
    assert caught.value.found.startswith("1 of 1 without an XML file: b.xml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        open_voc(tmp_path / "empty", "voc")
