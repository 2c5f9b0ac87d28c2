"""The code of docs/api.md runs, block after block, as a reader would type it.

Runs are real but for the detector's step, which is a stub: a real one takes a minute to compile.
"""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import lga_jax
from lga_jax import recipe
from tests.training import stubs

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
RETURNED = ("Predictor", "Detection", "EvalResult")  # types of what functions of the page return


def blocks():
    """{heading: code} of the page's sections; the heading of the first is its title."""
    sections = re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    code = {section.split("\n")[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL) for section in sections}
    return {heading: "\n".join(parts) for heading, parts in code.items() if parts}


@pytest.fixture
def place(tiny_run, tiny_predictor, tmp_path, monkeypatch):
    """The working folder, with what the page names: runs/demo, street.jpg and an annotated set of photos."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(tiny_run / "runs" / "tiny")
    (tmp_path / "photos" / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    for path in (tmp_path / "street.jpg", tmp_path / "photos" / "images" / "a.jpg"):
        cv2.imwrite(str(path), pixels)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 50, "width": 70}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30]}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(tiny_predictor.class_names, start=1)],
    }
    (tmp_path / "photos" / "val.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs_as_it_stands(place, tiny_predictor, monkeypatch, capsys):
    config = stubs.stub_config()
    monkeypatch.setattr(recipe, "load", lambda name: {"challenge": config}[name])
    stubs.install(monkeypatch)
    names = {}
    for heading, code in blocks().items():
        exec(compile(code.replace("num_steps = 600", "num_steps = 3"), f"docs/api.md, {heading}", "exec"), names)
        if heading == "Find objects in an image":
            names["model"] = tiny_predictor  # the same model; its programs are compiled
    assert names["picture"].dtype == np.uint8 and names["picture"].ndim == 3
    assert "missing.jpg" in capsys.readouterr().out
    assert names["result"].num_images == 1
    for run in ("mine", "own_loss", "own"):
        assert (place / "runs" / run / "checkpoints" / "3").is_dir()
    loss = names["small_scores"](_outputs(objectness=np.float32([[1.0, 3.0]])), None)
    assert float(loss) == pytest.approx(0.05)


def _outputs(**rpn):
    return type("Outputs", (), {"rpn": type("RPNOutputs", (), rpn)})


def test_the_first_example_is_three_lines_after_one_import():
    code = blocks()["Find objects in an image"]
    assert len(code.split("\n\n")[0].strip().splitlines()) == 3
    assert blocks()["Use it from Python"].strip() == "import lga_jax"


def test_every_name_of_the_package_is_on_the_page():
    text = PAGE.read_text()
    for name in set(lga_jax.__all__) - {"__version__", *RETURNED}:
        assert f"`{name}`" in text or f"lga_jax.{name}" in text, name
