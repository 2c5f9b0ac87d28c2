"""Finds and reads recipes."""

import ast
import contextlib
import difflib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from lga_jax.errors import UserError, cause_in, listed
from lga_jax.recipe.augmentation import AUGMENT, preset
from lga_jax.recipe.keys import rules_of
from lga_jax.recipe.rule import read_literal

_PACKAGE = Path(__file__).resolve().parents[1]


def load(name_or_path: str | os.PathLike) -> ConfigDict:
    """Reads a recipe by name ("coco") or by path, without checks: see `check`.

    Raises UserError if the recipe does not exist or its code fails.
    """
    path = path_of(name_or_path)
    try:
        config = _run(path).get_config()
    except UserError:
        raise
    except Exception as error:  # the code of a recipe can raise any exception
        old = isinstance(error, ModuleNotFoundError) and error.name == "configs"
        raise UserError(
            f"recipe {name_or_path}",
            expected="a recipe like coco",
            found=cause_in(error, path),
            remedy='begin get_config with `config = start_from("coco")`, from lga_jax.recipe' if old else "",
        ) from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"recipe {name_or_path}",
            expected="get_config() to return a ConfigDict",
            found=type(config).__name__,
            remedy='begin get_config with `config = start_from("coco")` and return config',
        )
    # No type safety here: `check` reports all wrong types together and accepts 1e3 for an int.
    return ConfigDict(config.to_dict(), type_safe=False)


def as_recipe(recipe: ConfigDict | str | os.PathLike) -> ConfigDict:
    """The recipe itself, or the recipe with this name or path."""
    return recipe if isinstance(recipe, ConfigDict) else load(recipe)


def start_from(name_or_path: str | os.PathLike) -> ConfigDict:
    """All values of another recipe, as a starting point for `get_config`."""
    return load(name_or_path)


def path_of(name_or_path: str | os.PathLike) -> Path:
    """The absolute path of a recipe. "coco" is a recipe of the project; text with a slash or .py is a path."""
    given = os.fspath(name_or_path)
    path = Path(given).expanduser()
    if path.name == given and path.suffix != ".py":
        path = folder() / f"{given}.py"
    if not path.is_file():
        raise UserError(
            f"recipe {given}", expected="a recipe, by name or path", found="no such file", remedy=_remedy(given)
        )
    return path.resolve()


def names() -> dict[str, str]:
    """The recipes of the project: {name: first line of its docstring}."""
    return {path.stem: _first_line(path) for path in sorted(folder().glob("[!_]*.py"))}


def folder() -> Path:
    """The folder of the project's recipes: lga_jax/configs/ of an installed package, or configs/ of a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def override(config: ConfigDict, changes: Mapping[str, str]) -> None:
    """Sets values by key from texts of the command line, {'optim.lr': '0.01'}. `check` reports unknown keys.

    'data.augment' sets all values of a preset first, so other values win.
    Raises UserError for a key below a value, such as optim.lr.x, and for an unknown preset.
    """
    nested, changes = config.to_dict(), dict(changes)
    if AUGMENT in changes:
        nested.setdefault("data", {}).update(preset(changes.pop(AUGMENT)))
    for key, text in sorted(changes.items(), key=lambda change: not change[0].endswith(".source")):
        *sections, name = key.split(".")
        place = nested
        for number, section in enumerate(sections):
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(
                    key, expected="a recipe key", found=f"{'.'.join(sections[: number + 1])} has no keys below it"
                )
        place[name] = _read(key, text, nested)
    with config.unlocked():
        # Without the old values: ConfigDict converts a new value to the type of the old one, and fails for some.
        for section in list(config):
            del config[section]
        config.update(nested)


def default_workdir(name_or_path: str | os.PathLike) -> str:
    """runs/coco for coco, and for configs/coco.py."""
    return str(Path("runs") / Path(name_or_path).stem)


def _read(key: str, text: str, nested: Mapping[str, Any]) -> Any:
    rules = rules_of(nested)
    return rules[key].read(text) if key in rules else read_literal(text)


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lga_jax_recipe_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with _checkout_on_path():
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _checkout_on_path() -> Iterator[None]:
    """Supports recipes of version 0.1 with `from configs import coco`."""
    root = str(_PACKAGE.parent)
    added = folder().parent == _PACKAGE.parent and root not in sys.path
    if added:
        sys.path.append(root)
    try:
        yield
    finally:
        if added:
            sys.path.remove(root)


def _remedy(given: str) -> str:
    known = list(names())
    stem = Path(given).stem
    if stem in known:
        return f"did you mean {stem}?"
    if Path(f"{given}.py").expanduser().is_file():
        return f"did you mean {given}.py?"
    near = difflib.get_close_matches(stem, known, 1)
    return f"did you mean {near[0]}?" if near else f"recipes by name: {listed(known, 20)}"


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
