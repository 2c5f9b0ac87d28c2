"""Suggestions for unknown keys."""

import difflib
from collections.abc import Iterable

# Common names from other projects.
_OTHER_NAMES = {
    "learning_rate": "optim.lr",
    "base_lr": "optim.lr",
    "lr0": "optim.lr",
    "wd": "optim.weight_decay",
    "epochs": "num_steps",
    "num_epochs": "num_steps",
    "max_epochs": "num_steps",
    "steps": "num_steps",
    "max_steps": "num_steps",
    "iterations": "num_steps",
    "max_iter": "num_steps",
    "batch": "batch_size",
    "bs": "batch_size",
    "workers": "data.num_workers",
    "weights": "model.init_from",
    "pretrained": "model.init_from",
    "checkpoint": "model.init_from",
    "img_size": "data.short_edges",
    "imgsz": "data.short_edges",
    "image_size": "data.short_edges",
    "warmup": "optim.warmup_steps",
    "momentum_decay": "optim.momentum",
    "grad_clip": "optim.clip_norm",
    "precision": "model.dtype",
    "fp16": "model.dtype",
    "bf16": "model.dtype",
}


def nearest_keys(name: str, keys: Iterable[str]) -> list[str]:
    """The most similar keys to `name`; empty if none is similar.

    The last word alone is enough: 'lr' and 'optimizer.lr' both mean 'optim.lr'.
    """
    keys = list(keys)
    last = _last(name)
    other = _OTHER_NAMES.get(last.replace("-", "_").lower())
    if other in keys:
        return [other]
    if same := [key for key in keys if _last(key) == last]:
        section = name.split(".")[0]
        return [key for key in same if key.startswith(f"{section}.")] or same
    alike = {key: _likeness(name, key) for key in keys}
    most = max(alike.values(), default=0.0)
    return [key for key in keys if alike[key] == most] if most > 0.75 else []


def closest(name: str, names: Iterable[str], otherwise: str) -> str:
    """A remedy for a name that is not among `names`."""
    return did_you_mean(difflib.get_close_matches(name, list(names), 1), otherwise)


def did_you_mean(candidates: list[str], otherwise: str) -> str:
    """A remedy for an unknown name."""
    return f"did you mean {' or '.join(candidates[:3])}?" if candidates else otherwise


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _likeness(name: str, key: str) -> float:
    """Similarity of the last words, 0 to 1; 0.15 more in the same section."""
    section = 0.15 if _section(name) == _section(key) else 0.0
    return difflib.SequenceMatcher(None, _last(name), _last(key)).ratio() + section


def _section(name: str) -> str:
    return name.rpartition(".")[0]
