"""Initial backbone weights from a file with torchvision's ResNet parameter names."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lga_jax.errors import UserError
from lga_jax.models.layers import FrozenBatchNorm

_NORM_LEAVES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load_pretrained(path: str, variables: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """`variables` of a detector with its backbone taken from `path`, and a report of what came from where.

    The file is an .npz whose arrays have torchvision's names and layouts (convolutions OIHW); batch norm stands either
    by itself (bn1.weight, ...) or folded into the convolutions (conv1.bias). It may hold only a part of the network:
    what it lacks keeps its initial value. Raises UserError for a file of another kind or arrays of another shape.
    """
    arrays = _read(path)
    wanted = flatten_dict(dict(variables), sep="/")
    used: set[str] = set()
    loaded, missing = [], []
    for key, initial in wanted.items():
        collection, part, *_ = key.split("/")
        if part != "backbone":
            continue
        for name, value in _candidates(key.removeprefix(f"{collection}/{part}/"), arrays):
            used.add(name)
            if value.shape != initial.shape:
                raise UserError(
                    f"model.init_from: {path}: {name}: expected an array that becomes {initial.shape} "
                    f"for this backbone, found {value.shape}; give weights of the configured depth and width"
                )
            wanted[key] = value.astype(np.float32)
            loaded.append(key)
            break
        else:
            missing.append(key)
    if not any(key.endswith("kernel") for key in loaded):
        raise UserError(
            f"model.init_from: {path}: expected torchvision's ResNet parameter names (conv1.weight, "
            f"layer1.0.conv1.weight, ...), found {', '.join(sorted(arrays)[:3]) or 'no arrays'}; convert the file first"
        )
    return unflatten_dict(wanted, sep="/"), _report(path, loaded, missing, sorted(set(arrays) - used))


def _read(path: str) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise UserError(f"model.init_from: expected a file, found none at {path}; correct the path or set it to ''")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"model.init_from: {path}: expected an .npz file of arrays, could not read it ({error}); convert it first"
        ) from None


def _candidates(key: str, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The array of the file that belongs at `key`, a parameter of our backbone such as layer2_0/norm1/bn/scale."""
    *parts, leaf = key.split("/")
    modules = [part for part in parts if part not in ("bn", "gn")]
    block, module = ([modules[0].replace("_", ".")] if len(modules) == 2 else []), modules[-1]
    conv = "downsample.0" if module.startswith("shortcut") else module.replace("norm", "conv")
    conv = ".".join([*block, conv])
    if leaf == "kernel":
        if f"{conv}.weight" in arrays:
            yield f"{conv}.weight", arrays[f"{conv}.weight"].transpose(2, 3, 1, 0)
        return
    norm = ".".join([*block, "downsample.1" if module == "shortcut_norm" else module.replace("norm", "bn")])
    if f"{norm}.running_var" in arrays:
        name = f"{norm}.{_NORM_LEAVES[leaf]}"
        if name in arrays and parts[-1] == "bn":
            yield name, arrays[name]
    elif f"{conv}.bias" in arrays and f"{conv}.weight" in arrays and parts[-1] == "bn":
        # Folded: the convolution already holds the scale, and this layer only has to add the bias.
        folded = arrays[f"{conv}.bias"]
        constants = {"scale": 1.0, "mean": 0.0, "var": 1.0 - FrozenBatchNorm.epsilon}
        yield f"{conv}.bias", folded if leaf == "bias" else np.full_like(folded, constants[leaf])


def _report(path: str, loaded: list[str], missing: list[str], unused: list[str]) -> str:
    def listed(names: list[str]) -> str:
        return ", ".join(names) or "nothing"

    kernels = [key for key in loaded if key.endswith("kernel")]
    random = [key.split("backbone/")[1] for key in missing if key.endswith("kernel")]
    norms = [key.split("backbone/")[1] for key in missing if not key.endswith("kernel")]
    return "\n".join(
        [
            f"{path}: {len(kernels)} convolutions of the backbone loaded, {len(loaded)} arrays in all",
            f"  starts at random: {listed(random)}",
            f"  norm layers left as initialised: {listed(norms)}",
            f"  in the file and not used: {listed(unused)}",
            "  everything behind the backbone (FPN, RPN, attention, box head) starts at random",
        ]
    )
