"""Recipes: the rules of all keys, loading, checking and comparing.

    from lga_jax.recipe import check, load

    config = check(load("coco"))

Imports neither jax nor other packages of lga_jax, so a wrong value is reported within seconds.
"""

from lga_jax.recipe.augmentation import augment
from lga_jax.recipe.check import RecipeError, check
from lga_jax.recipe.compare import differences, flatten
from lga_jax.recipe.keys import KEYS
from lga_jax.recipe.load import as_recipe, default_workdir, folder, load, names, override, path_of, start_from
from lga_jax.recipe.nearest import nearest_keys

__all__ = [
    "KEYS",
    "RecipeError",
    "as_recipe",
    "augment",
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
