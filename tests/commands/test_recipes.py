"""`lga_jax recipes`: the list, a copy of one, and nothing overwritten."""

import sys
from pathlib import Path

import pytest

from lga_jax.commands import recipes

ROOT = Path(__file__).parents[2]


def test_recipes_are_listed_shown_and_copied(monkeypatch, capsys, tmp_path):
    def call(*args):
        monkeypatch.setattr(sys, "argv", ["lga_jax recipes", *args])
        recipes.main()
        return capsys.readouterr().out

    names = {path.stem for path in (ROOT / "configs").glob("[!_]*.py")}
    assert {line.split()[0] for line in call().splitlines()} == names
    text = (ROOT / "configs" / "coco_json.py").read_text()
    assert call("coco_json") == text
    copy = tmp_path / "mine.py"
    call("coco_json", "--output", str(copy))
    assert copy.read_text() == text
    copy.write_text("precious")
    with pytest.raises(SystemExit):
        call("coco_json", "--output", str(copy))
    assert copy.read_text() == "precious"
