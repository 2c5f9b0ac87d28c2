"""Loads initial weights from files into the parameters of a detector, with a report."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float

from lga_jax.errors import UserError, listed
from lga_jax.models.backbones import Backbone
from lga_jax.models.build import build_backbone
from lga_jax.models.freezing import frozen_labels
from lga_jax.weights.class_rows import Rows, background_last, file_width, is_predictor, match_rows, merge_rows
from lga_jax.weights.compatibility import Fit, check_fit, lookup
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout, Slot, recognise
from lga_jax.weights.layouts.layout import pieces_of

_SHOWN = 12  # listed names in a report or an error; the others are counted


def load_pretrained(
    weights: Weights,
    variables: Mapping[str, Any],
    class_names: Sequence[str],
    model: Mapping[str, Any],
    exact: bool = False,
    backbone: Backbone | None = None,
) -> tuple[dict[str, Any], str]:
    """Returns `variables` of the detector of `model` (config.model) with the values of `weights`, and a report.

    Parameters that the file lacks, and class rows of new classes, keep their initial values. Weights for BGR input are
    converted to RGB. With model["init_strict"] every other parameter must be in the file, and every array of the file
    must be used. `exact` requires this too, and the same computation as the file's model. A frozen stage must not keep
    random values.
    backbone: that of the detector, if it is not the one of `model`.
    Raises UserError if the layout is unknown or the file does not fit.
    """
    layout = recognise(weights.where, weights.arrays)
    fit = check_fit(layout, weights, model, exact)
    strict = exact or model["init_strict"]
    rows = match_rows(layout, weights, class_names)
    source = _Source(layout, weights, model, fit, rows)
    wanted = flatten_dict(dict(variables), sep="/")
    used: dict[str, list[str]] = {}  # key -> names in the file
    for key, initial in wanted.items():
        slot = Slot.of(key)
        if slot.part in layout.parts and (found := source.take(slot, np.asarray(initial))):
            wanted[key], used[key] = found
    loaded = {key: wanted[key] for key in used}
    _check_finite(weights.where, loaded, used)
    account = _account(source, wanted, used)
    if not loaded:
        raise UserError(
            f"weights {weights.where}",
            expected="weights of this detector",
            found=f"{fit.title} with none",
        )
    if strict and (account.missing or account.unused):
        raise UserError(
            f"{'weights' if exact else 'model.init_strict:'} {weights.where} ({fit.title})",
            expected=f"a value for every parameter of {', '.join(layout.parts)} and nothing left over",
            found=f"{len(account.missing)} without a value ({listed(account.missing, _SHOWN)}) "
            f"and {len(account.unused)} left over ({listed(account.unused, _SHOWN)})",
            remedy="give weights of the whole model and of nothing else (train.py takes others without init_strict)",
        )
    _check_frozen(source, variables, used, build_backbone(model) if backbone is None else backbone)
    merged = unflatten_dict(wanted, sep="/")
    # Flattening drops a collection without arrays, such as batch_stats with group norm.
    return {collection: merged.get(collection, {}) for collection in variables}, _report(
        source, loaded, used, account, strict
    )


class _Source(NamedTuple):
    """A file, its layout and the model to load it into."""

    layout: Layout
    weights: Weights
    model: Mapping[str, Any]
    fit: Fit
    rows: Rows | None

    def is_predictor(self, slot: Slot) -> bool:
        """True if the last axis of the model's parameter has the classes."""
        return is_predictor(slot, bool(lookup(self.model, "box_head.class_agnostic")))

    def take(self, slot: Slot, initial: np.ndarray) -> tuple[np.ndarray, list[str]] | None:
        """The value of a parameter in our layout and its names in the file; None if the file lacks it."""
        name = self.layout.name_of(slot.key, self.weights.arrays)
        if name is None:
            return self._norm_without(slot, initial) if slot.norm == "bn" and not self.layout.ours else None
        if self.is_predictor(slot):
            return self._take_rows(slot, initial, name)
        pieces = pieces_of(name)
        if len(pieces) > 1:
            return self._queries_and_values(pieces, initial.shape)
        value = self._ours(slot, name, initial.shape)
        if slot.key == "params/backbone/conv1/kernel" and self.fit.bgr:
            value = value[:, :, ::-1]
        return np.ascontiguousarray(value, np.float32), [name]

    def _queries_and_values(self, pieces: list[str], shape: tuple[int, ...]) -> tuple[np.ndarray, list[str]] | None:
        """The bias of queries, keys and values; keys have none in the file. None if a piece is missing."""
        if not all(name in self.weights.arrays for name in pieces):
            return None
        queries, values = (self.weights.arrays[name] for name in pieces)
        for name, value in zip(pieces, (queries, values), strict=True):
            self._check_shape(name, value.shape, (shape[0] // 3,))
        return np.concatenate([queries, np.zeros_like(queries), values]).astype(np.float32), pieces

    def _norm_without(self, slot: Slot, initial: np.ndarray) -> tuple[np.ndarray, list[str]] | None:
        """A norm layer that the file has in another form: folded into its convolution, or only scale and bias.

        The convolution (or the file's scale) contains the scaling, so this layer gets a total scale of 1.
        """
        arrays = self.weights.arrays
        constants = {"scale": 1.0, "mean": 0.0, "var": 1.0 - _epsilon(slot, self.model)}
        norm = slot.key.rsplit("/", 1)[0]
        scale, *statistics = (self.layout.name_of(f"{norm}/{leaf}", arrays) for leaf in ("scale", "mean", "var"))
        if scale:
            if any(statistics) or not self.layout.affine_norms or slot.leaf not in constants:
                return None
            return np.full(initial.shape, constants[slot.leaf], np.float32), [scale]
        conv = norm.removesuffix("/bn").replace("shortcut_norm", "shortcut_conv").removesuffix("_norm")
        conv = conv.replace("/norm", "/conv")
        kernel, bias = (self.layout.name_of(f"{conv}/{leaf}", arrays) for leaf in ("kernel", "bias"))
        if kernel is None or bias is None:
            return None
        if slot.leaf != "bias":
            return np.full(initial.shape, constants[slot.leaf], np.float32), [bias]
        self._check_shape(bias, arrays[bias].shape, initial.shape)
        return arrays[bias], [bias]

    def _take_rows(self, slot: Slot, initial: np.ndarray, name: str) -> tuple[np.ndarray, list[str]] | None:
        if self.rows is None or self.rows.sources is None:
            return None
        width = file_width(slot, self.rows, self.layout.background_first)
        value = self._ours(slot, name, (*initial.shape[:-1], width))
        if self.layout.background_first:
            value = background_last(slot, value)
        return merge_rows(slot, initial, value, self.rows), [name]

    def _ours(self, slot: Slot, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array of the file with its axes in our order; its shape must be `shape`."""
        value = self.weights.arrays[name]
        if slot.leaf == "layer_scale":  # [c 1 1] in torchvision
            value = value.reshape(-1)
        if slot.leaf != "kernel" or self.layout.ours:
            self._check_shape(name, value.shape, shape)
            return value
        if f"{slot.part}/{slot.module}" == "mask_head/deconv":  # [in, out, h, w] there
            self._check_shape(name, value.shape, (*shape[2:], *shape[:2]))
            return value.transpose(2, 3, 0, 1)
        theirs = tuple(shape[axis] for axis in _THEIR_AXES[len(shape)])
        self._check_shape(name, value.shape, theirs)
        if f"{slot.part}/{slot.module}".endswith("box_head/fc1"):  # of any stage
            value = crops_from_torch(value, self.model["roi_align"]["crop_size"])
        return value.transpose(_OUR_AXES[len(shape)])

    def _check_shape(self, name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if found != expected:
            raise UserError(
                f"weights {self.weights.where}: this is {self.fit.title}; {name}",
                expected=f"shape {expected} for the recipe's model",
                found=str(found),
                remedy="give weights of its width and sizes, or its recipe",
            )


# Kernels are [h, w, in, out] here and [out, in, h, w] in other projects; dense kernels [in, out] and [out, in].
_THEIR_AXES = {4: (3, 2, 0, 1), 2: (1, 0)}
_OUR_AXES = {4: (2, 3, 1, 0), 2: (1, 0)}


def crops_from_torch(kernel: Float[np.ndarray, "o i"], crop_size: int) -> Float[np.ndarray, "o i"]:
    """Converts a dense kernel for crops flattened as [c, s, s] to crops flattened as [s, s, c]."""
    apart = kernel.reshape(len(kernel), -1, crop_size, crop_size)
    return apart.transpose(0, 2, 3, 1).reshape(kernel.shape)


def _epsilon(slot: Slot, model: Mapping[str, Any]) -> float:
    return model["backbone"]["norm_eps"] if slot.part == "backbone" else 1e-5


def _check_finite(where: str, loaded: Mapping[str, np.ndarray], used: Mapping[str, list[str]]) -> None:
    for key, value in loaded.items():
        if not np.isfinite(value).all():
            raise UserError(
                f"weights {where}: {used[key][0]}",
                expected="finite numbers",
                found=f"{(~np.isfinite(value)).sum()} of nan or infinity",
                remedy="the model that wrote them had diverged",
            )


def _check_frozen(
    source: _Source, variables: Mapping[str, Any], used: Mapping[str, list[str]], backbone: Backbone
) -> None:
    """Raises UserError if a frozen parameter would keep its initial value."""
    labels = {collection: frozen_labels(tree, backbone) for collection, tree in variables.items()}
    labels = flatten_dict(labels, sep="/")
    initial = [key.split("/", 1)[1] for key, label in labels.items() if label == "frozen" and key not in used]
    if initial:
        raise UserError(
            f"weights {source.weights.where} ({source.fit.title})",
            expected=f"a value for every parameter of the {backbone.frozen_stages} frozen stages",
            found=f"none for {listed(initial, _SHOWN)}",
            remedy="give --config.model.backbone.frozen_stages=0, or other weights",
        )


class _Account(NamedTuple):
    """Names and shapes of arrays that were not loaded, for the report."""

    missing: list[str]  # our parameters in the parts of the file
    apart: dict[str, int]  # other part -> number of our arrays
    unused: list[str]  # arrays of the file
    ignored: int


def _account(source: _Source, wanted: Mapping[str, Any], used: Mapping[str, list[str]]) -> _Account:
    layout, arrays, rows = source.layout, source.weights.arrays, source.rows
    missing, apart = [], {}
    for key, value in wanted.items():
        slot = Slot.of(key)
        if slot.part not in layout.parts:
            apart[slot.part] = apart.get(slot.part, 0) + 1
        elif key not in used and not (rows and source.is_predictor(slot)):
            missing.append(f"{key.split('/', 1)[1]} {tuple(value.shape)}")
    names = {name for found in used.values() for name in found}
    if rows:  # a predictor without matching rows was read too
        names |= {layout.name_of(key, arrays) for key in wanted if source.is_predictor(Slot.of(key))}
    rest = [name for name in arrays if name not in names]
    idle = {name for name in rest if layout.idle.match(name) and not arrays[name].any()}
    unused = [f"{name} {arrays[name].shape}" for name in rest if not layout.ignored.match(name) and name not in idle]
    return _Account(missing, apart, unused, len(rest) - len(unused))


def _report(
    source: _Source,
    loaded: Mapping[str, np.ndarray],
    used: Mapping[str, list[str]],
    account: _Account,
    strict: bool,
) -> str:
    layout, weights, _, fit, rows = source
    lines = [f"weights {weights.where}: {fit.title}{', BGR turned to RGB' if fit.bgr else ''}"]
    for part in layout.parts:
        keys = [key for key in loaded if Slot.of(key).part == part]
        if keys:
            first = next((key for key in keys if key.endswith("/kernel")), keys[0])
            size = sum(loaded[key].size for key in keys)
            example = f"{used[first][0]} {weights.arrays[used[first][0]].shape}"
            lines.append(
                f"  loaded into {part}: {len(keys)} arrays, {size:,} numbers, such as {example} -> "
                f"{first.split('/', 1)[1]} {loaded[first].shape}"
            )
    if rows:
        new_rows = strict and (rows.sources is None or None in rows.sources)
        lines.append(f"  {rows.report}{' (strictness does not apply to class rows)' if new_rows else ''}")
    lines.append(f"  left at initial values: {listed(account.missing, _SHOWN)}")
    if account.apart:
        parts = ", ".join(f"{part} ({count} arrays)" for part, count in account.apart.items())
        lines.append(f"  not in such a file, left at initial values: {parts}")
    besides = f" (and {account.ignored} of classifiers, counters and anchors)" if account.ignored else ""
    lines.append(f"  in the file and not used: {listed(account.unused, _SHOWN)}{besides}")
    return "\n".join([*lines, *(f"  {note}" for note in fit.notes)])
