"""Compares recipes key by key."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def flatten(recipe: ConfigDict | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'optim.lr': 0.02, ...}, with the values of JSON for a ConfigDict (tuples become lists)."""
    if isinstance(recipe, ConfigDict):
        recipe = json.loads(recipe.to_json())
    flat = {}
    for key, value in recipe.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def differences(
    one: ConfigDict | Mapping[str, Any], other: ConfigDict | Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Every key with different values, and both values; None stands for a missing key."""
    ours, theirs = flatten(one), flatten(other)
    return {key: (ours.get(key), theirs.get(key)) for key in sorted(ours | theirs) if ours.get(key) != theirs.get(key)}
