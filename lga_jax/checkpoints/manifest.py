"""The manifest: the JSON description of a checkpoint, and the checks before arrays are restored."""

import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from lga_jax.checkpoints.damage import json_digest
from lga_jax.data.source import Source, truth_of
from lga_jax.errors import UserError, listed, name_differences
from lga_jax.recipe import KEYS, RecipeError, check, differences, flatten
from lga_jax.recipe.keys import ATTENTIONS

# Keys: version (of lga_jax, for information only), format, config, class_names, category_ids,
# parameters {name: [shape, dtype]}, schedule_start (the step at which the learning rate's schedule starts: 0, or the
# step at which the run was extended). A checkpoint adds step and digests {variables, optimizer, data, manifest}.
Manifest = dict

# The checkpoint format that this version writes and reads. Checkpoints of version 0.1 have no number: format 1.
FORMAT = 2

_FROM_ITS_WEIGHTS = "start a new run from its weights: another workdir and --config.model.init_from=WORKDIR"

# The entries of a manifest of any format, with their types.
_WHOLE = {
    ("config", "model"): dict,
    ("class_names",): list,
    ("category_ids",): list,
    ("parameters",): dict,
    ("step",): int,
    ("digests", "variables"): str,
    ("digests", "optimizer"): str,
}

# Keys of a recipe that do not matter for a detector that the caller built.
OWN_DETECTOR = ("model.backbone", "model.attention")

_FOR_PREDICTION = (
    *("model.", "inference.", "data.buckets", "data.eval_buckets", "data.eval_short_edge", "data.long_edge"),
    *("data.size_rounding", "data.resize", "data.num_workers", "data.prefetch"),
)

# Keys that may change when a run is resumed: they have no effect on the parameters, except that images_at_once changes
# the order of a sum; a run that continues on fewer devices may need less memory per device. The folder of the data may
# change too, because the loader's position identifies data by a fingerprint.
_FREE = {
    "images_at_once",
    *("log_every", "tracker", "checkpoint_every", "eval_every", "model.init_from", "model.init_strict"),
    *("eval_losses", "eval_raw", "early_stopping.patience", "early_stopping.metric"),
    *("data.max_faulty", "data.num_workers", "data.prefetch"),
}


def make_manifest(config: ConfigDict, source: Source, eval_source: Source, params: PyTree) -> Manifest:
    """The manifest without step and digests, which is the same for all checkpoints of a run; JSON types only."""
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
    """The category ids of the data's ground truth, in the order of class_names."""
    categories = {category["name"]: category["id"] for category in truth_of(source)["categories"]}
    return [categories[name] for name in source.class_names]


def parameter_table(params: PyTree) -> dict[str, list]:
    """Shape and dtype of arrays or abstract shapes: {'roi/box_head/fc1/kernel': [[1024, 1024], 'float32'], ...}."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [list(leaf.shape), str(leaf.dtype)]
        for path, leaf in leaves
    }


def sealed(manifest: Manifest, step: int, digests: Mapping[str, str]) -> Manifest:
    """The manifest of a checkpoint: adds its step, the digests of the other items, and a digest of the manifest."""
    whole = json.loads(json.dumps({**manifest, "step": step, "digests": dict(digests)}))
    return {**whole, "digests": {**whole["digests"], "manifest": json_digest(whole)}}


def check_whole(manifest: Any, step: int) -> None:
    """Raises ValueError if the manifest is damaged, or belongs to another step than `step`."""
    for path, kind in _WHOLE.items():
        value = manifest
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"the manifest has no valid {'.'.join(path)}")
    check_names(manifest)
    number = manifest.get("format", 1)
    if number == FORMAT and "manifest" not in manifest["digests"]:
        raise ValueError("the manifest has no digest: damaged, or written before the release of version 0.2")
    if not isinstance(number, int) or (number == FORMAT and not isinstance(manifest.get("schedule_start"), int)):
        raise ValueError("the manifest has no valid format or schedule_start")
    # Checked before any value is used: a flipped bit can give another valid value, also of the format.
    digests = dict(manifest["digests"])
    own = digests.pop("manifest", None)
    if own != json_digest({**manifest, "digests": digests}) and (own is not None or number == FORMAT):
        raise ValueError("the manifest does not have the digest it was saved with")
    if manifest["step"] != step:
        raise ValueError(f"the manifest belongs to step {manifest['step']}")


def check_names(manifest: Mapping[str, Any]) -> None:
    """Raises ValueError unless class_names are unique texts and category_ids as many unique whole numbers."""
    names, ids = manifest["class_names"], manifest["category_ids"]
    if not names or not all(type(name) is str for name in names) or len(set(names)) < len(names):
        raise ValueError("the manifest has no valid class_names")
    if not all(type(number) is int and abs(number) < 2**63 for number in ids) or len(set(ids)) < len(ids):
        raise ValueError("the manifest has no valid category_ids")
    if len(names) != len(ids):
        raise ValueError("the manifest has no category id for each class")


def recipe_of(manifest: Manifest, where: str, own: Iterable[str] = ()) -> ConfigDict:
    """The recipe in a manifest, checked like a recipe of the user, because a checkpoint can come from anybody.

    Keys that prediction does not use may be missing: earlier versions had fewer. Those about data sets are not checked.

    Args:
        manifest: the manifest.
        where: the name of the checkpoint in errors.
        own: keys and sections replaced by objects of the caller, as in `lga_jax.recipe.check`.

    Raises UserError with the first fault.
    """
    try:
        recipe = ConfigDict(_with_tuples(manifest["config"]))
        unused = [f"model.{name}" for name in _unused(recipe.model.to_dict())]
        unneeded = [key for key in KEYS.keys() - flatten(recipe) if not key.startswith(_FOR_PREDICTION)]
        return check(recipe, own=("data.train", "data.eval", *unneeded, *unused, *own))
    except RecipeError as error:
        fault = error.faults[0]
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:  # keys that ConfigDict rejects
        fault = UserError("config", expected="sections with the keys of a recipe", found=type(error).__name__)
    raise UserError(
        f"{where}: its recipe: {fault.subject}",
        expected=fault.expected,
        found=fault.found,
        remedy="use a checkpoint of this version of lga_jax",
    )


def _with_tuples(value: Any) -> Any:
    """JSON stores tuples as lists; they become tuples again."""
    if isinstance(value, Mapping):
        return {key: _with_tuples(entry) for key, entry in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def check_format(manifest: Manifest, where: str, earlier: bool = False) -> None:
    """Raises UserError if the format of the checkpoint is not FORMAT; `earlier` allows lower numbers."""
    found = manifest.get("format", 1)
    if found == FORMAT or (earlier and found < FORMAT):
        return
    raise UserError(
        where,
        expected=f"a checkpoint of format {FORMAT}",
        found=f"format {found}, written by lga_jax {manifest.get('version')}",
        remedy=_FROM_ITS_WEIGHTS if found < FORMAT else "install the version that wrote it",
    )


def check_classes(manifest: Manifest, class_names: tuple[str, ...], where: str) -> None:
    """Raises UserError if the classes of the checkpoint differ from the classes of the data."""
    theirs, ours = manifest["class_names"], list(class_names)
    if theirs != ours:
        raise UserError(
            where,
            expected=f"a checkpoint for the data's {len(ours)} classes in the same order",
            found=f"a checkpoint for {len(theirs)} ({name_differences(theirs, ours, 'the checkpoint', 'the data')})",
            remedy="use its training data, or train in another workdir",
        )


def check_parameters(manifest: Manifest, params: PyTree, where: str) -> None:
    """Raises UserError if the parameters of the checkpoint and of the recipe's model differ in name, shape or dtype."""
    theirs, ours = manifest["parameters"], parameter_table(params)
    names = [name for name in sorted(theirs | ours) if theirs.get(name) != ours.get(name)]
    if names:
        raise UserError(
            where,
            expected="parameters of the recipe's model",
            found=f"{len(names)} different parameters, first {names[0]}: {_shape(theirs.get(names[0]))} "
            f"in the checkpoint, {_shape(ours.get(names[0]))} in the model",
            remedy="use the recipe of its training",
        )


def check_config(manifest: Manifest, config: dict, step: int, where: str, extend: bool = False) -> None:
    """Raises UserError if a run with `config` cannot resume from the checkpoint at `step`.

    With the 'step' schedule, num_steps may change to any number from `step` up. A cosine depends on its last step:
    num_steps may only increase, and only with `extend`.
    """
    differing = {key: both for key, both in differences(manifest["config"], config).items() if not _is_free(key)}
    cosine = config["optim"]["schedule"] == "cosine"
    longer = config["num_steps"] > step
    if (extend and longer) if cosine else config["num_steps"] >= step:
        differing.pop("num_steps", None)
    remedy = "use another workdir, or the values of the checkpoint"
    if differing.keys() & KEYS.keys() - flatten(manifest["config"]).keys():
        remedy = f"an earlier state of lga_jax wrote it; {_FROM_ITS_WEIGHTS}"
    if cosine and longer and differing.keys() == {"num_steps"}:
        remedy = (
            f"a cosine schedule ends at num_steps: use extend to start a new schedule at step {step}, "
            "or start in another workdir with --config.model.init_from=WORKDIR"
        )
    _refuse(differing, where, expected="a checkpoint with this recipe", remedy=remedy)


def schedule_start(manifest: Manifest, config: dict, step: int, extend: bool) -> int:
    """The step at which the schedule starts for a run that passed `check_config`.

    With `extend` and another num_steps that is `step`. A repeated command with `extend` has the same num_steps, so it
    resumes the new schedule.
    """
    extended = extend and manifest["config"]["num_steps"] != config["num_steps"]
    return step if extended else manifest["schedule_start"]


def check_model(manifest: Mapping[str, Any], model_config: ConfigDict, where: str) -> None:
    """Raises UserError if the recipe's model is not the model of the checkpoint."""
    theirs = manifest["config"]["model"]
    unused = _unused(theirs) & _unused(model_config.to_dict())
    differing = {
        f"model.{key}": both
        for key, both in differences(theirs, model_config).items()
        if key not in _FREE_OF_MODEL and key.split(".")[0] not in {*_FREE_OF_MODEL, *unused}
    }
    _refuse(
        differing,
        where,
        expected="a checkpoint of the recipe's model",
        remedy="use the recipe of its training",
    )


# Sections and keys of config.model that change neither the parameters nor their meaning.
_FREE_OF_MODEL = (
    *("dtype", "init_from", "init_strict", "anchor_sampling", "proposals", "roi_sampling"),
    *("backbone.frozen_stages", "backbone.remat", "backbone.stochastic_depth"),
    *("cascade.positive_ious", "cascade.loss_weights"),
)


def _unused(model: Mapping[str, Any]) -> set[str]:
    """The sections of attentions that no stage has, and of a mask head that is not enabled."""
    used = {model.get("attention"), *model.get("cascade", {}).get("attentions", ())}
    has_masks = model.get("mask_head", {}).get("enabled")
    return set(ATTENTIONS) - used | (set() if has_masks else {"mask_head"})


def _refuse(differing: Mapping[str, tuple[Any, Any]], where: str, *, expected: str, remedy: str) -> None:
    """Raises UserError with the first differing keys, if there are any."""
    if differing:
        keys = [
            f"{key} {theirs!r} in the checkpoint, {ours!r} in the recipe" for key, (theirs, ours) in differing.items()
        ]
        raise UserError(where, expected=expected, found=listed(keys, 4, "; "), remedy=remedy)


def _is_free(key: str) -> bool:
    return key in _FREE or (key.startswith(("data.train.", "data.eval.")) and key.endswith(".root"))


def _version() -> str:
    try:
        return importlib.metadata.version("lga_jax")
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return "not installed"


def _shape(entry: list | None) -> str:
    return "missing" if entry is None else f"{entry[1]}{entry[0]}"
