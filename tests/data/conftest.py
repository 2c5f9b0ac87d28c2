"""A COCO-JSON folder small enough to know by heart, and ways to spoil it."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import strategies as st

SIZES = {"a.png": (40, 60), "b.png": (50, 30)}  # height, width


def truth() -> dict:
    """Two images, three categories whose ids have gaps and are out of order, one annotation of every kind."""
    return {
        "images": [
            {"id": 11, "file_name": "a.png", "height": 40, "width": 60},
            {"id": 5, "file_name": "b.png", "height": 50, "width": 30},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}, {"id": 7, "name": "train"}],
        "annotations": [
            {"id": 0, "image_id": 11, "category_id": 90, "bbox": [10, 5, 20, 30]},
            {"id": 0, "image_id": 11, "category_id": 3, "bbox": [50.5, 30, 20, 20], "area": 123.5, "iscrowd": 0},
            {"id": 1, "image_id": 11, "category_id": 7, "bbox": [0, 0, 60, 40], "iscrowd": 1},
            {"id": 2, "image_id": 11, "category_id": 3, "bbox": [1, 1, 0, 5]},
            {"id": 3, "image_id": 11, "category_id": 3, "bbox": [1, 1, float("nan"), 5]},
            {"id": 4, "image_id": 5, "category_id": 3, "bbox": [30, 10, 5, 5]},
            {"id": 5, "image_id": 5, "category_id": 3, "bbox": [-9, -9, 9, 9]},
        ],
    }


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """make_folder(truth) writes the images and annotations.json, and returns the root."""

    def make(content: object = None) -> Path:
        (tmp_path / "images").mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        for name, hw in SIZES.items():
            cv2.imwrite(str(tmp_path / "images" / name), rng.integers(0, 255, (*hw, 3), np.uint8))
        text = content if isinstance(content, str) else json.dumps(truth() if content is None else content)
        (tmp_path / "annotations.json").write_text(text)
        return tmp_path

    return make


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 100)
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.just(10**400)
)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)


def mutate(data: st.DataObject, content: dict) -> None:
    """One to three values anywhere in the annotations become any other, or go."""
    for _ in range(data.draw(st.integers(1, 3))):
        _mutate(data, content)


def _mutate(data: st.DataObject, node: dict | list) -> None:
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    if not keys:
        return
    key = data.draw(st.sampled_from(keys))
    if isinstance(node[key], dict | list) and data.draw(st.integers(0, 3)):
        _mutate(data, node[key])
    elif data.draw(st.booleans()):
        node[key] = data.draw(_VALUES)
    else:
        del node[key]
