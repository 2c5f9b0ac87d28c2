import os
import sys
from pathlib import Path

import pytest

from lga_jax.errors import UserError
from lga_jax.recipe import (
    RecipeError,
    check,
    default_workdir,
    differences,
    folder,
    load,
    names,
    override,
    path_of,
    start_from,
)

OWN = """
from lga_jax.recipe import start_from

def get_config():
    config = start_from("challenge")
    config.optim.lr = 0.5
    return config
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The file of a recipe of the user's own; the working folder is another."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "mine" / "own.py"
    path.write_text(OWN)
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry) != folder().parent])
    return path


def test_every_recipe_is_found_by_name_with_a_line_about_it():
    found = names()
    assert {"coco", "challenge", "coco_json"} <= found.keys()
    assert all(line.endswith(".") for line in found.values())
    for name in found:
        check(load(name))


def test_a_recipe_by_name_and_by_path_is_the_same(monkeypatch):
    monkeypatch.chdir(folder().parent)
    by_name = load("coco")
    for path in ("configs/coco.py", folder() / "coco.py"):
        assert path_of(path) == path_of("coco") == folder() / "coco.py"
        assert differences(load(path), by_name) == {}


def test_a_recipe_of_the_users_own_starts_from_one_of_the_project_wherever_it_lies(own):
    for path in (own, "../mine/own.py", "~/mine/own.py"):
        assert differences(load(path), load("challenge")) == {"optim.lr": (0.5, 0.001)}


def test_a_recipe_starts_from_the_users_own_by_path(own):
    (own.parent / "next.py").write_text(
        OWN.replace('"challenge"', f'"{own}"').replace("config.optim.lr = 0.5", "config.seed = 1")
    )
    assert differences(load(own.parent / "next.py"), load(own)) == {"seed": (1, 0)}


def test_recipes_of_the_first_version_work_in_a_checkout(own):
    own.write_text("from configs import coco\n\ndef get_config():\n    return coco.get_config()\n")
    path = list(sys.path)
    assert differences(load(own), load("coco")) == {}
    assert sys.path == path


def test_what_is_started_from_is_a_copy():
    start_from("coco").optim.lr = 5.0
    assert start_from("coco").optim.lr == 0.02


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def get_config(:", "invalid syntax, line 1"),
        ("\nraise ValueError('from within')", "ValueError: from within, line 2"),
        ("import nothing_of_that_name", "No module named"),
        ("", "get_config"),
        ("def get_config():\n    return {}", "dict"),
        ("from lga_jax.recipe import start_from\n\ndef get_config():\n    return start_from('cocoa')", ""),
    ],
)
def test_a_recipe_whose_code_fails_is_a_fault_of_the_users(tmp_path, code, words):
    path = tmp_path / "own.py"
    path.write_text(code)
    with pytest.raises(UserError) as caught:
        load(path)
    assert caught.value.subject == ("recipe cocoa" if "cocoa" in code else f"recipe {path}")
    assert words in caught.value.found
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("chalenge", "did you mean challenge?"),
        ("elsewhere/coco.py", "did you mean coco?"),
        ("configs/coco.py", "did you mean coco?"),
        ("../mine/own", "did you mean ../mine/own.py?"),
        ("zzzz", "recipes by name: bccd, challenge"),
    ],
)
def test_a_recipe_that_is_not_there(own, given, remedy):
    with pytest.raises(UserError) as caught:
        load(given)
    assert caught.value.subject == f"recipe {given}"
    assert caught.value.remedy.startswith(remedy)


def test_values_of_the_command_line_take_the_types_of_their_keys():
    config = load("coco")
    changes = {
        "num_steps": "1e3",
        "optim.milestones": "600,800",
        "data.train.root": "2017",
        "data.max_boxes": "none",
        "model.fpn.norm": "none",
        "model.backbone.remat": "true",
    }
    override(config, changes)
    checked = check(config)
    assert checked.num_steps == 1000 and type(checked.num_steps) is int
    assert checked.optim.milestones == (600, 800)
    assert checked.data.train.root == "2017"
    assert checked.data.max_boxes is None
    assert checked.model.fpn.norm == "none"
    assert checked.model.backbone.remat is True


def test_a_source_can_be_changed_with_its_settings():
    config = load("challenge")
    override(config, {"data.train.seed": "3", "data.train.challenges": "('plain',)"})
    assert check(config).data.train.seed == 3


def test_a_number_of_the_command_line_that_is_too_large_for_a_float_is_refused():
    config = load("coco")
    override(config, {"optim.lr": "1" + 400 * "0"})
    with pytest.raises(RecipeError, match=r"^optim\.lr: "):
        check(config)


def test_a_value_has_no_keys_below_it():
    with pytest.raises(UserError) as caught:
        override(load("coco"), {"optim.lr.x": "1"})
    assert (caught.value.subject, caught.value.found) == ("optim.lr.x", "optim.lr has no keys below it")


def test_the_default_workdir_has_the_name_of_the_recipe():
    for given in ("coco_json", "configs/coco_json.py"):
        assert default_workdir(given) == os.path.join("runs", "coco_json")
