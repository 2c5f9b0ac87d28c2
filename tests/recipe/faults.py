"""Recipes with a few values changed, and what is wrong with them."""

import pytest

from lga_jax.recipe import RecipeError, check, load


def changed(name, changes):
    config = load(name)
    for key, value in changes.items():
        section, _, last = key.rpartition(".")
        place = config
        for part in filter(None, section.split(".")):
            place = place[part]
        place[last] = value
    return config


def faults(name="challenge", changes=(), **how):
    """{subject: fault} of a recipe with these changes."""
    with pytest.raises(RecipeError) as caught:
        check(changed(name, dict(changes)), **how)
    return {fault.subject: fault for fault in caught.value.faults}
