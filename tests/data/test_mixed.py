import json
from contextlib import closing

import cv2
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from pycocotools.coco import COCO

from configs.coco import get_config
from lga_jax.data.batches.loader import TrainLoader
from lga_jax.data.source import Source, open_source, truth_of
from lga_jax.errors import UserError
from tests.data import lvis_folder

STREET = [(3, "car"), (7, "train")]
HARBOUR = [(1, "ship"), (2, "car")]


@pytest.fixture
def make_part(tmp_path):
    """make_part(name, categories, boxes) writes a set whose image i has boxes of the classes in boxes[i]."""

    def make(name: str, categories: list, boxes: list[list[int]]) -> dict:
        (tmp_path / name).mkdir()
        for number in range(len(boxes)):
            pixels = np.full((40, 60, 3), 10 * number + len(name), np.uint8)
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), pixels)
        truth = {
            "images": [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in range(len(boxes))],
            "categories": [{"id": number, "name": class_name} for number, class_name in categories],
            "annotations": [
                {"id": 1, "image_id": i, "category_id": category, "bbox": [category, 5, 10, 10 + i]}
                for i, classes in enumerate(boxes)
                for category in classes
            ],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(truth))
        place = dict(root=str(tmp_path), annotations=f"{name}.json", images=name)
        return dict(source="coco_json", **place, skip_empty=False, weight=1.0)

    return make


@pytest.fixture
def parts(make_part):
    return {
        "street": make_part("street", STREET, [[3], [3, 7], []]),
        "harbour": make_part("harbour", HARBOUR, [[1, 2], [1]]) | {"weight": 2.5},
    }


def test_a_part_is_found_by_the_places_of_its_images(parts):
    source = open_source("mixed", parts=parts)
    assert [tuple(part) for part in source.part_ranges] == [("data part 'street'", 0, 3), ("data part 'harbour'", 3, 5)]
    inner = dict(source="mixed", parts=parts, weight=1.0)
    nested = open_source("mixed", parts={"all": inner, "sea": parts["harbour"]})
    assert [(part.start, part.stop) for part in nested.part_ranges] == [(0, 3), (3, 5), (5, 7)]
    assert nested.part_ranges[1].where == "data part 'all': data part 'harbour'"


def _names(source: Source, index: int) -> list[str]:
    return [source.class_names[label] for label in source.records[index].labels]


def test_classes_go_by_their_names(parts):
    source = open_source("mixed", parts=parts)
    assert isinstance(source, Source)
    assert source.class_names == ("car", "train", "ship")
    assert [_names(source, i) for i in range(5)] == [["car"], ["car", "train"], [], ["ship", "car"], ["ship"]]
    assert [r.image_id for r in source.records] == ["street/0", "street/1", "street/2", "harbour/0", "harbour/1"]
    assert [r.weight for r in source.records] == [1, 1, 1, 2.5, 2.5]
    assert [source.image(i)[0, 0, 0] for i in range(5)] == [6, 16, 26, 7, 17]  # 10 number + len(name)
    np.testing.assert_array_equal(source.records[3].boxes_original, [[1, 5, 11, 15], [2, 5, 12, 15]])


def test_one_part_can_say_which_classes_are_learnt(parts):
    source = open_source("mixed", parts=parts, classes="harbour")
    assert source.class_names == ("ship", "car")
    assert [_names(source, i) for i in range(5)] == [["car"], ["car"], [], ["ship", "car"], ["ship"]]
    assert "street: boxes of 'train' are left out" in source.report


def test_the_report_warns_of_what_is_learnt_as_background(parts):
    report = open_source("mixed", parts=parts).report
    assert "street: it has no boxes of 'ship': such objects in its images are trained as background" in report
    assert "harbour: it has no boxes of 'train': such objects in its images are trained as background" in report
    assert "street: each of its 3 images is shown 1 times in an epoch: 37.5% of the epoch" in report
    assert "harbour: each of its 2 images is shown 2.5 times in an epoch: 62.5% of the epoch" in report
    assert any(line.startswith("street: ") and "3 images, 3 boxes, 2 classes" in line for line in report)


@pytest.mark.parametrize("classes", ["", "street"])
def test_the_ground_truth_says_the_same_as_the_records(parts, classes):
    source = open_source("mixed", parts=parts, classes=classes)
    truth = COCO()
    truth.dataset = source.truth()
    truth.createIndex()
    assert len(truth.anns) == sum(len(record.labels) for record in source.records)
    for index, record in enumerate(source.records):
        annotations = truth.imgToAnns[record.image_id]
        assert [truth.cats[a["category_id"]]["name"] for a in annotations] == _names(source, index)
        np.testing.assert_array_equal([a["bbox"][:2] for a in annotations], record.boxes_original[:, :2].tolist())


def test_an_epoch_sees_a_part_as_often_as_its_weight_says(parts):
    config = get_config().data
    config.update(short_edges=(32,), long_edge=48, buckets=((32, 48),), num_workers=1)
    config.train = ConfigDict(dict(source="mixed", parts=parts))
    source = open_source(**config.train)
    assert source.class_names == ("ship", "car", "train")  # a ConfigDict has the parts in order of their names
    with closing(TrainLoader(source, config, 0, 4, 0, jax.local_devices()[:1])) as loader:
        assert loader.steps_per_epoch == 2  # 3 x 1 + 2 x 2.5 places
        seen = np.bincount(np.concatenate([jax.device_get(next(loader)).index.ravel() for _ in range(2)]))
    np.testing.assert_array_equal(seen[2:], 1)
    assert sorted(seen[:2]) in ([2, 3], [3, 2])


def test_the_fingerprint_knows_contents_weights_and_classes(parts):
    def fingerprint(parts: dict, **settings: str) -> str:
        return open_source("mixed", parts=parts, **settings).fingerprint

    heavier = {**parts, "street": parts["street"] | {"weight": 3}}
    assert fingerprint(parts) == fingerprint(parts)
    assert len({fingerprint(parts), fingerprint(heavier), fingerprint(parts, classes="street")}) == 3


def test_weights_of_parts_within_parts_multiply_and_crowds_stay_crowds(parts):
    inner = dict(source="mixed", parts={"street": parts["street"] | {"weight": 3.0}}, weight=2.0)
    source = open_source("mixed", parts={"inner": inner, "harbour": parts["harbour"]})
    assert [record.weight for record in source.records] == [6.0, 6.0, 6.0, 2.5, 2.5]
    assert source.records[0].image_id == "inner/street/0"


def test_crowds_of_a_part_stay_crowds(parts, tmp_path):
    path = tmp_path / "harbour.json"
    truth = json.loads(path.read_text())
    truth["annotations"][0]["iscrowd"] = 1  # a ship
    path.write_text(json.dumps(truth))
    assert open_source("mixed", parts=parts).records[3].crowd.tolist() == [True, False]
    assert open_source("mixed", parts=parts, classes="street").records[3].crowd.tolist() == [False]


def test_a_part_with_nothing_to_train_on_is_named(make_part):
    empty = make_part("quay", HARBOUR, [[], []]) | {"skip_empty": True}
    with pytest.raises(UserError, match=r"^data part 'quay': .*quay.json: expected an image with a box to train on"):
        open_source("mixed", parts={"quay": empty})


def test_lists_of_verified_classes_get_the_labels_and_ids_of_the_mixture(parts, tmp_path):
    lists = lvis_folder.write(tmp_path) | {"weight": 1.0}
    source = open_source("mixed", parts={"street": parts["street"], "lvis": lists}, classes="lvis")
    assert source.records[0].verified is None  # all classes: "street" has no lists
    assert [record.verified.tolist() for record in source.records[3:]] == [[0, 1, 2], [0], [1], [0, 3]]
    both = open_source("mixed", parts={"street": parts["street"], "lvis": lists})
    assert both.records[3].verified.tolist() == [2, 3, 4]  # after car and train, which its images do not verify
    images = {image["id"]: image for image in truth_of(both)["images"]}
    assert images["lvis/5"]["neg_category_ids"] == [3] and images["lvis/5"]["not_exhaustive_category_ids"] == [5]
    assert images["street/0"]["neg_category_ids"] == [1, 2] and images["street/0"]["not_exhaustive_category_ids"] == []
    assert "neg_category_ids" not in truth_of(open_source("mixed", parts=parts))["images"][0]
