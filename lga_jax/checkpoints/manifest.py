"""The manifest: what a checkpoint says about itself in JSON, and the questions asked before anything is restored."""

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from lga_jax.data.source import Source
from lga_jax.errors import UserError

# version (of lga_jax; for people, nothing reads it), config, class_names, category_ids,
# parameters {name: [shape, dtype]}; in a checkpoint also step and digests
Manifest = dict

# Keys that may change between two parts of one run: they move no parameter. Data is known by fingerprint, not by place.
_FREE = {
    *("log_every", "checkpoint_every", "eval_every", "model.init_from", "model.init_strict"),
    *("data.num_workers", "data.prefetch"),
}


def make_manifest(config: ConfigDict, source: Source, eval_source: Source, params: PyTree) -> Manifest:
    """The part of the manifest that stays the same over a run; JSON types only."""
    return manifest_for_classes(config, source.class_names, category_ids(eval_source), params)


def manifest_for_classes(
    config: ConfigDict, class_names: Sequence[str], category_ids: Sequence[int], params: PyTree
) -> Manifest:
    """`make_manifest` without data."""
    return {
        "version": _version(),
        "config": json.loads(config.to_json()),
        "class_names": list(class_names),
        "category_ids": list(category_ids),
        "parameters": parameter_table(params),
    }


def category_ids(source: Source) -> list[int]:
    """The ids that the data's ground truth gives its classes, in the order of class_names."""
    categories = {category["name"]: category["id"] for category in source.coco_json()["categories"]}
    return [categories[name] for name in source.class_names]


def parameter_table(params: PyTree) -> dict[str, list]:
    """{'roi/box_head/fc1/kernel': [[1024, 1024], 'float32'], ...} of arrays or abstract shapes."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [list(leaf.shape), str(leaf.dtype)]
        for path, leaf in leaves
    }


def check_classes(manifest: Manifest, class_names: tuple[str, ...], where: str) -> None:
    """Raises UserError where the checkpoint was trained for other classes than the data's."""
    theirs, ours = manifest["class_names"], list(class_names)
    if theirs != ours:
        raise UserError(
            where,
            expected=f"a checkpoint for the data's {len(ours)} classes ({_some(ours)})",
            found=f"one for {len(theirs)} ({_some(theirs)})",
            remedy="use the data it was trained on, or train in another --workdir",
        )


def check_parameters(manifest: Manifest, params: PyTree, where: str) -> None:
    """Raises UserError where the checkpoint's parameters are not those of the model that the config describes."""
    theirs, ours = manifest["parameters"], parameter_table(params)
    names = [name for name in sorted(theirs | ours) if theirs.get(name) != ours.get(name)]
    if names:
        raise UserError(
            where,
            expected="parameters of the config's model",
            found=f"{len(names)} that differ, first {names[0]}: {_shape(theirs.get(names[0]))} "
            f"in the checkpoint, {_shape(ours.get(names[0]))} in the model",
            remedy="give the --config that it was trained with",
        )


def check_config(manifest: Manifest, config: dict, step: int, where: str) -> None:
    """Raises UserError unless `config` goes on with the run that the checkpoint at `step` belongs to.

    With the 'step' schedule num_steps may change, as long as it is not below what is done already; a cosine is defined
    by its end, so there it may not.
    """
    theirs, ours = _flatten(manifest["config"]), _flatten(config)
    differing = [key for key in sorted(theirs | ours) if not _is_free(key) and theirs.get(key) != ours.get(key)]
    if ours["optim.schedule"] == "step" and ours["num_steps"] >= step and "num_steps" in differing:
        differing.remove("num_steps")
    if differing:
        keys = "; ".join(f"{key} {theirs.get(key)!r} there, {ours.get(key)!r} here" for key in differing[:4])
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise UserError(
            where,
            expected="a run of this config",
            found=f"one of another: {keys}{more}",
            remedy="give another --workdir, or the values it was started with",
        )


def _is_free(key: str) -> bool:
    return key in _FREE or (key.startswith(("data.train.", "data.eval.")) and key.endswith(".root"))


def _version() -> str:
    try:
        return importlib.metadata.version("lga_jax")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that nobody installed
        return "not installed"


def _flatten(config: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in config.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _shape(entry: list | None) -> str:
    return "missing" if entry is None else f"{entry[1]}{entry[0]}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


# Sections and keys of config.model that change neither a parameter nor what a parameter means.
_FREE_OF_MODEL = (
    *("dtype", "init_from", "init_strict", "anchor_sampling", "proposals", "roi_sampling"),
    *("backbone.frozen_stages", "backbone.remat"),
)


_BLOCKS = ("lga", "cbam", "non_local")  # sections of which only the chosen `attention` is in use


def check_model(manifest: Mapping[str, Any], model_config: ConfigDict, where: str) -> None:
    """Raises UserError where the config describes another model than the one that the checkpoint was trained as."""
    theirs, ours = (_flat(model) for model in (manifest["config"]["model"], json.loads(model_config.to_json())))
    differing = [key for key in sorted(theirs | ours) if theirs.get(key) != ours.get(key)]
    if differing:
        keys = "; ".join(f"model.{key} {theirs.get(key)!r} there, {ours.get(key)!r} here" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(
            where,
            expected="a checkpoint of the config's model",
            found=f"another: {keys}{more}",
            remedy="give the --config it was trained with",
        )


def _flat(model: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The keys that matter, as {'backbone.depth': 50, ...}."""
    flat = {}
    for key, value in model.items():
        name = f"{prefix}{key}"
        if name in _FREE_OF_MODEL or (name in _BLOCKS and name != model["attention"]):
            continue
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
