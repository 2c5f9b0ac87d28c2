"""The challenge set as a source: annotations, determinism, export, and what wrong settings get."""

import hashlib
import re

import numpy as np
import pytest
from pycocotools.coco import COCO

from lga_jax.data.challenge.scene import CHALLENGES
from lga_jax.data.challenge.source import Challenge, export
from lga_jax.data.coco.source import CocoJson
from lga_jax.data.object_masks import AS_STORED, cover
from lga_jax.data.source import Source, open_source
from tests.faults import refused

# First 16 digits of the sha256 of image 0 at seed 7, severity 3. A change here changes every trained number: raise
# the set's version with it.
GOLDEN = {
    "plain": "c3221f053f26edbd",
    "complex_environment": "9277c3fc79ea7023",
    "intra_class_variance": "f6f48fad6fc66d3f",
    "inter_class_similarity": "a3abccd3f9788f22",
    "scale": "32c1cbf0c6146ecb",
    "motion_blur": "d0a5cabcd0511c44",
    "camouflage": "5ce5adf89dcecc83",
}


@pytest.fixture(scope="module")
def mixed():
    return Challenge(150, seed=3, image_hw=(128, 160))


@pytest.mark.parametrize("name", CHALLENGES)
def test_every_machine_draws_the_same_bytes(name):
    image = Challenge(1, 7, (96, 128), (name,), (3,)).image(0)
    assert hashlib.sha256(image.tobytes()).hexdigest()[:16] == GOLDEN[name]


def test_an_image_depends_on_seed_and_index_alone():
    few, many, other = Challenge(3, 5), Challenge(8, 5), Challenge(3, 6)
    np.testing.assert_array_equal(few.image(2), many.image(2))
    np.testing.assert_array_equal(few.image(2), few.image(2))
    np.testing.assert_array_equal(few.records[2].boxes_original, many.records[2].boxes_original)
    assert (few.image(2) != other.image(2)).any()
    assert (few.image(2) != few.image(1)).any()
    assert len({few.fingerprint, many.fingerprint, other.fingerprint}) == 3
    assert few.fingerprint == Challenge(3, 5, [160, 160], list(CHALLENGES), [1, 2, 3]).fingerprint


def test_it_is_a_source(mixed):
    assert isinstance(mixed, Source)
    assert open_source("challenge", num_images=2, seed=1).class_names == mixed.class_names
    assert mixed.image(0).shape == (128, 160, 3)
    with pytest.raises(IndexError):
        mixed.image(150)


def test_coco_json_is_read_by_pycocotools(mixed):
    coco = COCO()
    coco.dataset = mixed.truth()
    coco.createIndex()
    assert [coco.cats[i]["name"] for i in sorted(coco.cats)] == list(mixed.class_names)
    image = coco.imgs[mixed.records[4].image_id]
    assert (image["challenge"], image["severity"]) == mixed.challenges[4]
    annotations = coco.imgToAnns[image["id"]]
    xywh = np.array([annotation["bbox"] for annotation in annotations])
    np.testing.assert_array_equal(xywh[:, :2], mixed.records[4].boxes_original[:, :2])
    np.testing.assert_array_equal(xywh[:, :2] + xywh[:, 2:], mixed.records[4].boxes_original[:, 2:])
    part = np.array([annotation["part_bbox"] for annotation in annotations])
    np.testing.assert_array_equal(part[:, :2] + part[:, 2:], mixed.parts[4][:, 2:])
    assert 0 not in coco.anns


def test_an_exported_folder_reads_back_the_same(tmp_path):
    source = Challenge(4, 2, (64, 96))
    export(source, tmp_path / "set")
    back = CocoJson(str(tmp_path / "set"), "annotations/instances.json", "images", skip_empty=False)
    assert back.class_names == source.class_names
    for index, record in enumerate(back.records):
        original = source.records[index]
        assert record.image_id == original.image_id
        np.testing.assert_array_equal(record.boxes_original, original.boxes_original)
        np.testing.assert_array_equal(record.labels, original.labels)
        np.testing.assert_array_equal(back.image(index), source.image(index))


def test_masks_are_the_drawn_vehicles(tmp_path):
    """Vehicles of the same scene with and without camouflage differ where their masks are."""
    plain, painted = (Challenge(6, 2, (96, 128), (name,), (3,)) for name in ("plain", "camouflage"))
    for index, record in enumerate(plain.records):
        masks = [cover(mask, AS_STORED, (96, 128)) for mask in plain.object_masks(index)]
        assert len(masks) == len(record.labels)
        for cells, (x1, y1, x2, y2) in zip(masks, record.boxes_original, strict=True):
            rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
            found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            np.testing.assert_allclose(found, [x1, y1, x2, y2], atol=1)
        changed = np.abs(plain.image(index).astype(int) - painted.image(index)).max(axis=-1) > 12
        inside = np.max(masks, axis=0) > 127
        assert changed[inside].mean() > 0.6
        assert not changed[np.max(masks, axis=0) == 0].mean() > 0.02
    export(plain, tmp_path / "set")
    back = CocoJson(str(tmp_path / "set"), "annotations/instances.json", "images", skip_empty=False)
    for index in range(6):
        for mask, other in zip(back.object_masks(index), plain.object_masks(index), strict=True):
            np.testing.assert_array_equal(np.concatenate(mask.parts), np.concatenate(other.parts))


def test_export_overwrites_nothing(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with refused(f"^export folder {tmp_path}$"):
        export(Challenge(1), tmp_path)
    with refused("^export folder .*mine.txt$"):
        export(Challenge(1), tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("settings", "subject", "found"),
    [
        ({"num_images": 0}, "num_images", "0"),
        ({"seed": -1}, "seed", "-1"),
        ({"image_hw": (32, 160)}, "image_hw", "(32, 160)"),
        ({"image_hw": (160,)}, "image_hw", "(160,)"),
        ({"challenges": ("camoflage",)}, "challenges", "'camoflage'"),
        ({"challenges": ()}, "challenges", "''"),
        ({"severities": (0, 1)}, "severities", "(0, 1)"),
        ({"severities": ()}, "severities", "()"),
        ({"min_objects": 3, "max_objects": 2}, "min_objects, max_objects", "3 and 2"),
        ({"min_objects": 0}, "min_objects, max_objects", "0 and 4"),
    ],
)
def test_wrong_settings_get_one_line(settings, subject, found):
    with refused(f"^{subject}$", f"^{re.escape(found)}$") as caught:
        Challenge(**{"num_images": 1, **settings})
    assert "challenges" not in settings or "did you mean" in caught.value.remedy
