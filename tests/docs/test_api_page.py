"""The code of docs/api.md runs, block after block, as a reader would type it."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import lga_jax
from lga_jax import recipe
from lga_jax.train import run as run_module
from tests import tiny_run as tiny

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
CLASSES = ("Predictor", "Detection", "EvalResult")  # these come from functions of the page


def blocks():
    """{heading: code} of the page's sections; the heading of the first is its title."""
    sections = re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    code = {section.split("\n")[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL) for section in sections}
    return {heading: "\n".join(parts) for heading, parts in code.items() if parts}


@pytest.fixture
def place(tiny_run, tmp_path, monkeypatch):
    """A folder with what the page names: runs/coco, street.jpg and an annotated set of photos."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "coco").symlink_to(tiny_run / "runs" / "tiny")
    (tmp_path / "photos" / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    for path in (tmp_path / "street.jpg", tmp_path / "photos" / "images" / "a.jpg"):
        cv2.imwrite(str(path), pixels)
    names = lga_jax.load(tiny_run / "runs" / "tiny").class_names
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 50, "width": 70}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30]}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }
    (tmp_path / "photos" / "val.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_training(monkeypatch):
    """Runs are opened with tiny recipes that have nothing left to train: what is given is recorded."""
    opened = []

    class Run:
        latest = {}

        def __init__(self, options):
            opened.append(options)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def __iter__(self):
            return iter([(100, {})])

    monkeypatch.setattr(run_module, "open_run", lambda config, workdir, **options: Run((config, workdir, options)))
    monkeypatch.setattr(run_module, "train", lambda config, workdir: opened.append((config, workdir, {})))
    return opened


def test_the_page_runs_as_it_stands(place, without_training, tiny_predictor, monkeypatch, capsys):
    names = {}
    for heading, code in blocks().items():
        exec(compile(code, f"docs/api.md, {heading}", "exec"), names)
        if heading == "Find objects in an image":
            names["model"] = tiny_predictor  # its programs are compiled
    assert names["picture"].dtype == np.uint8 and names["picture"].ndim == 3
    assert "missing.jpg" in capsys.readouterr().out
    assert names["result"].num_images == 1
    assert [workdir for _, workdir, _ in without_training] == [
        "runs/mine", "runs/mine", "runs/own_loss", "runs/squares"]  # fmt: skip
    assert without_training[0][0].num_steps == 600


def test_its_loss_and_its_source_are_ones_that_training_takes(place, without_training):
    names = {"np": np}
    for code in blocks().values():
        if "def small_scores" in code or "class Squares" in code or "recipe.load" in code:
            exec(code, names, names) if "np" in names else None
    loss = names["small_scores"](type("Outputs", (), {"objectness": np.float32([[1.0, 3.0]])}), None)
    assert float(loss) == pytest.approx(0.05)
    source = names["Squares"](5)
    assert isinstance(source, lga_jax.data.source.Source)
    assert source.image(4).shape == (64, 64, 3)


def test_the_first_example_is_three_lines_after_one_import():
    code = blocks()["Find objects in an image"]
    assert len(code.split("\n\n")[0].strip().splitlines()) == 3
    assert blocks()["Use it from Python"].strip() == "import lga_jax"


def test_every_name_of_the_package_is_on_the_page():
    text = PAGE.read_text()
    for name in set(lga_jax.__all__) - {"__version__", *CLASSES}:
        assert f"`{name}`" in text or f"lga_jax.{name}" in text, name
