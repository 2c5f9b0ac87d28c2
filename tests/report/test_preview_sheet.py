"""Sheets of what training sees: complete, in place, and the loader's own pixels."""

import json
from contextlib import closing
from pathlib import Path

import cv2
import jax
import numpy as np

from configs.challenge import get_config
from lga_jax.data.batches.loader import TrainLoader
from lga_jax.data.object_masks import pixels_of
from lga_jax.data.source import open_source
from lga_jax.report import preview_sheet as preview
from tests.faults import refused


def _config(**values: object) -> object:
    config = get_config()
    config.batch_size = 4
    config.data.train.update(num_images=9, image_hw=(64, 64))
    config.data.update(short_edges=(64,), long_edge=64, buckets=((64, 96),), flip_probability=1.0, **values)
    return config


def test_a_sample_is_what_the_loader_makes_beside_its_original():
    config = _config()
    samples = list(preview.draw_samples(config, 6))
    assert len(samples) == 6  # of the second batch, two
    source = open_source(**config.data.train)
    with closing(TrainLoader(source, config.data, config.seed, 4, 0, jax.local_devices()[:1], 0, 1)) as loader:
        batch = jax.device_get(next(loader))
    for number, sample in enumerate(samples[:4]):
        index = int(batch.index[0, number])
        assert sample.caption == f"{index}: 64 x 64, scaled by 1.00 into 96 x 64"
        assert sample.original.shape == (384, 384, 3) and sample.seen.shape == (256, 384, 3)
        seen = cv2.resize(sample.seen, (96, 64), interpolation=cv2.INTER_AREA).astype(int)
        assert np.median(np.abs(seen - batch.images[0, number])) < 6  # but for boxes and letters
        own = cv2.resize(sample.original, (64, 64), interpolation=cv2.INTER_AREA).astype(int)
        assert np.median(np.abs(own - source.image(index))) < 6
        assert (seen[:, 80:] < 40).mean() > 0.95  # the padding


def test_boxes_are_drawn_where_the_targets_are():
    config = _config()
    config.data.train.update(challenges=("plain",), min_objects=1, max_objects=1)
    source = open_source(**config.data.train)
    sample = next(preview.draw_samples(config, 1))
    record = source.records[int(sample.caption.split(":")[0])]
    x1, y1, _, y2 = record.boxes_original[0] * 6  # 384 / 64
    colour = preview.class_colours(dict(enumerate(source.class_names)))[int(record.labels[0])]
    side = sample.original[round((y1 + y2) / 2), round(x1) - 3 : round(x1) + 4].astype(int)
    assert (np.abs(side - colour).max(axis=1) < 40).any()
    flipped = (384 - x1) * 4 / 6  # 384 / 96
    side = sample.seen[round((y1 + y2) / 2 * 4 / 6), round(flipped) - 3 : round(flipped) + 4].astype(int)
    assert (np.abs(side - colour).max(axis=1) < 40).any()


def test_sheets_are_written_sixteen_samples_each(tmp_path):
    paths = preview.preview(_config(), str(tmp_path / "sheets"), 19)
    assert [path.name for path in paths] == ["preview_000.jpg", "preview_001.jpg"]
    full, rest = (cv2.imread(str(path)) for path in paths)
    assert full.shape[0] > 3.5 * rest.shape[0] and full.shape[1] * 3 == rest.shape[1] * 4


def _of_files(root: Path, files: dict[str, np.ndarray | bytes], annotations: list[dict]) -> object:
    """A recipe that trains on images of 64 x 64 pixels; annotations are about the image of their image_id."""
    (root / "images").mkdir()
    for name, content in files.items():
        data = content if isinstance(content, bytes) else cv2.imencode(".png", content)[1].tobytes()
        (root / "images" / name).write_bytes(data)
    images = [{"id": n, "file_name": name, "height": 64, "width": 64} for n, name in enumerate(files)]
    categories = [{"id": 1, "name": "car"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))
    config = _config()
    config.data.train = dict(
        source="coco_json", root=str(root), annotations="annotations.json", images="images", skip_empty=False
    )
    return config


def test_images_have_the_names_of_their_files(tmp_path):
    config = _of_files(tmp_path, {"a.png": np.zeros((64, 64, 3), np.uint8)}, [])
    (sample,) = preview.draw_samples(config, 1)
    assert sample.caption == "a.png: 64 x 64, scaled by 1.00 into 96 x 64"


def test_crowds_are_dashed_beside_the_other_boxes(tmp_path):
    box = {"image_id": 0, "category_id": 1, "bbox": [4, 8, 24, 48]}
    crowd = {"image_id": 0, "category_id": 1, "bbox": [36, 8, 24, 48], "iscrowd": 1}
    config = _of_files(tmp_path, {"a.png": np.zeros((64, 64, 3), np.uint8)}, [box, crowd])
    (sample,) = preview.draw_samples(config, 1)
    left, crowds_left = (sample.original[9 * 6 : 55 * 6, x * 6].max(axis=1) > 60 for x in (4, 36))
    assert left.all() and 0.3 < crowds_left.mean() < 0.9


def test_an_image_that_cannot_be_read_says_so(tmp_path):
    config = _of_files(tmp_path, {"a.png": b"no image"}, [{"image_id": 0, "category_id": 1, "bbox": [4, 8, 24, 48]}])
    (sample,) = preview.draw_samples(config, 1)
    assert sample.original.shape == (384, 384, 3)
    assert (sample.original > 230).any() and (sample.original == 128).mean() > 0.9


def test_a_transform_of_the_users_own_is_seen(tmp_path):
    own, code = tmp_path / "own.py", "def paint(image, boxes, labels, rng):\n    return {}, boxes, labels\n"
    own.write_text(code.format("image * 0.5"))
    config = _config(transform=f"{own}:paint")
    with refused("data.transform", found="float64"):
        next(preview.draw_samples(config, 1))
    own.write_text(code.format("image * 0 + 200"))
    (sample,) = preview.draw_samples(config, 1)
    assert np.median(sample.seen[:250, :250]) == 200 and np.median(sample.original) != 200


def test_masks_are_drawn_where_the_vehicles_are():
    """With masks the inside of a vehicle has another colour; outside of its box nothing changes."""
    config = _config()
    config.data.train.update(challenges=("plain",), min_objects=1, max_objects=1)
    plain = next(preview.draw_samples(config, 1))
    config.model.mask_head.enabled = True
    masked = next(preview.draw_samples(config, 1))
    source = open_source(**config.data.train)
    index = int(plain.caption.split(":")[0])
    inside = pixels_of(source.object_masks(index)[0], (64, 64))
    seen = np.pad(inside[:, ::-1], ((0, 0), (0, 32)))  # flipped, in 64 x 96
    for one, other, mask in ((plain.original, masked.original, inside), (plain.seen, masked.seen, seen)):
        changed = np.abs(one.astype(int) - other).max(axis=2) > 8
        changed = cv2.resize(changed.astype(np.uint8) * 255, mask.shape[::-1], interpolation=cv2.INTER_AREA) > 127
        assert changed[mask].mean() > 0.8
        assert changed[~mask].mean() < 0.1
