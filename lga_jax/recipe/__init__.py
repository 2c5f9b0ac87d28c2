"""Recipes: every rule of every key, how recipes are found and loaded, and how two of them differ.

    from lga_jax.recipe import check, load

    config = check(load("coco"))

Imports neither jax nor any other room: a wrong value is told before anything is opened.
"""

from lga_jax.recipe.check import RecipeError, check
from lga_jax.recipe.compare import differences, flatten
from lga_jax.recipe.keys import KEYS
from lga_jax.recipe.load import as_recipe, default_workdir, folder, load, names, override, path_of, start_from
from lga_jax.recipe.nearest import nearest_keys

__all__ = [
    "KEYS",
    "RecipeError",
    "as_recipe",
    "check",
    "default_workdir",
    "differences",
    "flatten",
    "folder",
    "load",
    "names",
    "nearest_keys",
    "override",
    "path_of",
    "start_from",
]
