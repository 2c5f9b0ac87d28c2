"""Prepared sets, and no index outside the folder of a test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lga_jax.data.tfds.prepare import prepare_coco_json


@pytest.fixture(autouse=True)
def _no_cache_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def make_set(make_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """make_set(truth) prepares the folder known by heart as the set "mine", and returns its data_dir."""

    def make(content: object = None) -> Path:
        places = {"train": ("annotations.json", "images")}
        prepare_coco_json("mine", str(tmp_path / "tfds"), str(make_folder(content)), places)
        return tmp_path / "tfds"

    return make
