"""Recipes compared, key by key."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def flatten(recipe: ConfigDict | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'optim.lr': 0.02, ...}; of a ConfigDict the values that its JSON has (tuples are lists)."""
    if isinstance(recipe, ConfigDict):
        recipe = json.loads(recipe.to_json())
    flat = {}
    for key, value in recipe.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def differences(
    one: ConfigDict | Mapping[str, Any], other: ConfigDict | Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Every key whose values differ, with both; None where one lacks the key."""
    ours, theirs = flatten(one), flatten(other)
    return {key: (ours.get(key), theirs.get(key)) for key in sorted(ours | theirs) if ours.get(key) != theirs.get(key)}
