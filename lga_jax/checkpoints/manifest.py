"""The manifest: what a checkpoint says about itself in JSON, and the questions asked before anything is restored."""

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from lga_jax.data.source import Source, truth_of
from lga_jax.errors import UserError, listed
from lga_jax.recipe import differences

# version (of lga_jax; for people, nothing reads it), format, config, class_names, category_ids,
# parameters {name: [shape, dtype]}, schedule_start (the step from which the learning rate's schedule runs: 0, or where
# the run was extended); in a checkpoint also step and digests
Manifest = dict

# The format of checkpoints that this version writes and reads. Those of version 0.1 hold no number: format 1.
FORMAT = 2

# What every manifest holds, whatever its format.
_WHOLE = {
    ("config", "model"): dict,
    ("class_names",): list,
    ("category_ids",): list,
    ("parameters",): dict,
    ("step",): int,
    ("digests", "variables"): str,
    ("digests", "optimizer"): str,
}

# Keys that may change between two parts of one run: they move no parameter. The loader's position knows data by its
# fingerprint, wherever it lies.
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
        "format": FORMAT,
        "config": json.loads(config.to_json()),
        "class_names": list(class_names),
        "category_ids": list(category_ids),
        "parameters": parameter_table(params),
        "schedule_start": 0,
    }


def category_ids(source: Source) -> list[int]:
    """The ids that the data's ground truth gives its classes, in the order of class_names."""
    categories = {category["name"]: category["id"] for category in truth_of(source)["categories"]}
    return [categories[name] for name in source.class_names]


def parameter_table(params: PyTree) -> dict[str, list]:
    """{'roi/box_head/fc1/kernel': [[1024, 1024], 'float32'], ...} of arrays or abstract shapes."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [list(leaf.shape), str(leaf.dtype)]
        for path, leaf in leaves
    }


def check_whole(manifest: Any) -> None:
    """Raises ValueError for what is not a whole manifest: it is damaged."""
    for path, kind in _WHOLE.items():
        value = manifest
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, kind):
            raise ValueError(f"its manifest has no sound {'.'.join(path)}")
    number = manifest.get("format", 1)
    if not isinstance(number, int) or (number == FORMAT and not isinstance(manifest.get("schedule_start"), int)):
        raise ValueError("its manifest has no sound format or schedule_start")


def check_format(manifest: Manifest, where: str, earlier: bool = False) -> None:
    """Raises UserError where the checkpoint has another format than this version's; `earlier` allows lower ones."""
    found = manifest.get("format", 1)
    if found == FORMAT or (earlier and found < FORMAT):
        return
    raise UserError(
        where,
        expected=f"a checkpoint of format {FORMAT}",
        found=f"format {found}, of lga_jax {manifest.get('version')}",
        remedy="train from its weights in another --workdir, with --config.model.init_from=WORKDIR"
        if found < FORMAT
        else "install the version that wrote it",
    )


def check_classes(manifest: Manifest, class_names: tuple[str, ...], where: str) -> None:
    """Raises UserError where the checkpoint was trained for other classes than the data's."""
    theirs, ours = manifest["class_names"], list(class_names)
    if theirs != ours:
        raise UserError(
            where,
            expected=f"a checkpoint for the data's {len(ours)} classes ({listed(ours, 3)})",
            found=f"one for {len(theirs)} ({listed(theirs, 3)})",
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


def check_config(manifest: Manifest, config: dict, step: int, where: str, extend: bool = False) -> None:
    """Raises UserError unless `config` goes on with the run that the checkpoint at `step` belongs to.

    With the 'step' schedule num_steps may change, as long as it is not below what is done already. A cosine is defined
    by its end: there num_steps may only grow, and only with `extend`, which starts a new schedule at `step`.
    """
    differing = {key: both for key, both in differences(manifest["config"], config).items() if not _is_free(key)}
    cosine = config["optim"]["schedule"] == "cosine"
    longer = config["num_steps"] > step
    if (extend and longer) if cosine else config["num_steps"] >= step:
        differing.pop("num_steps", None)
    remedy = "give another --workdir, or the values it was started with"
    if cosine and longer and differing.keys() == {"num_steps"}:
        remedy = (
            f"a cosine ends at its num_steps: give --extend for a new schedule from step {step} on, "
            "or start in another --workdir with --config.model.init_from=WORKDIR"
        )
    _refuse(differing, where, expected="a run of this config", remedy=remedy)


def schedule_start(manifest: Manifest, config: dict, step: int) -> int:
    """Where the learning rate's schedule starts for a run that passed `check_config`: at `step` if it extends it."""
    cosine = config["optim"]["schedule"] == "cosine"
    return step if cosine and manifest["config"]["num_steps"] != config["num_steps"] else manifest["schedule_start"]


def check_model(manifest: Mapping[str, Any], model_config: ConfigDict, where: str) -> None:
    """Raises UserError where the config describes another model than the one that the checkpoint was trained as."""
    theirs = manifest["config"]["model"]
    unused = {block for block in _BLOCKS if block not in (theirs.get("attention"), model_config.attention)}
    differing = {
        f"model.{key}": both
        for key, both in differences(theirs, model_config).items()
        if key not in _FREE_OF_MODEL and key.split(".")[0] not in {*_FREE_OF_MODEL, *unused}
    }
    _refuse(
        differing,
        where,
        expected="a checkpoint of the config's model",
        remedy="give the --config it was trained with",
    )


# Sections and keys of config.model that change neither a parameter nor what a parameter means.
_FREE_OF_MODEL = (
    *("dtype", "init_from", "init_strict", "anchor_sampling", "proposals", "roi_sampling"),
    *("backbone.frozen_stages", "backbone.remat"),
)

_BLOCKS = ("lga", "cbam", "non_local")  # sections; only that of `attention` is used


def _refuse(differing: Mapping[str, tuple[Any, Any]], where: str, *, expected: str, remedy: str) -> None:
    """Raises UserError that names the first of the differing keys, if any differ."""
    if differing:
        keys = [f"{key} {theirs!r} there, {ours!r} here" for key, (theirs, ours) in differing.items()]
        raise UserError(where, expected=expected, found=f"another: {listed(keys, 4, '; ')}", remedy=remedy)


def _is_free(key: str) -> bool:
    return key in _FREE or (key.startswith(("data.train.", "data.eval.")) and key.endswith(".root"))


def _version() -> str:
    try:
        return importlib.metadata.version("lga_jax")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that nobody installed
        return "not installed"


def _shape(entry: list | None) -> str:
    return "missing" if entry is None else f"{entry[1]}{entry[0]}"
