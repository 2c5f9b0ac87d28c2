"""The heat maps behind the masks' centres: does a mask look at two places, and is its centre only their mean?

A centre of the library's default is the mean position of a heat map (SoftmaxCentres). Two equal places, as the indices
in opposite corners of a playing card, would give a centre between them that is at neither.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lga_jax.models.detector import Detector
from lga_jax.models.roi.crops import Levels, RoICrops
from lga_jax.structs import Batch

FAR = 3  # cells from the peak in x or y
CORNER = 2  # side of a corner, cells


def heat_maps(
    detector: Detector, variables: Mapping[str, Any], batches: Iterable[Batch]
) -> tuple[Float[np.ndarray, "n s s m"], Float[np.ndarray, "n m 2"]]:
    """Heat maps, after the softmax, and centres in cells, of the m masks of each of the n true boxes.

    `batches` with targets; leaves [1, b, ...].
    """

    def at_boxes(detector: Detector, batch: Batch) -> Float[Array, "b n m 2"]:
        stage = detector.stage(0)
        pyramid = detector.fpn(detector.backbone(detector.normalise(batch.images, batch.image_hw), False), False)
        crop = RoICrops(Levels(pyramid[:-1]), batch.targets.boxes, stage.strides, stage.roi_align)
        return stage.attention.predict_gaussians(crop("pyramid")).centres

    @jax.jit
    def compute(variables: Mapping[str, Any], batch: Batch) -> tuple[Array, Array]:
        centres, seen = detector.apply(
            variables, batch, method=at_boxes, capture_intermediates=lambda module, _: module.name == "heat"
        )
        (heat,) = seen["intermediates"]["attention"]["centres"]["heat"]["__call__"]
        places = variables["params"]["attention"]["centres"]["places"]
        heat = heat.reshape(*centres.shape[:2], *places.shape) + places
        share = jax.nn.softmax(heat.reshape(*centres.shape[:2], -1, places.shape[-1]), axis=-2)
        return share.reshape(heat.shape), centres

    found = []
    for batch in batches:
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batch)
        true = np.asarray(one.targets.valid & (one.index >= 0)[:, None])
        found.append([np.asarray(leaf)[true] for leaf in compute(variables, one)])
    heat, centres = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return heat, centres


def describe_heat_maps(heat: Float[np.ndarray, "n s s m"], centres: Float[np.ndarray, "n m 2"]) -> dict[str, Any]:
    """Means over the boxes, per mask.

    cells: the number of cells that the heat map covers, the exponential of its entropy; 49 if it covers the whole crop
        of 7 x 7 evenly.
    far: the share of the heat map that lies FAR cells or more from its peak. With a second place as hot as the first it
        is about a half.
    in_corner: share of the boxes whose peak is one of the CORNER x CORNER cells in a corner.
    peak_to_centre, centre_to_middle: mean distances, cells.
    """
    num_boxes, side, _, num_masks = heat.shape
    flat = heat.reshape(num_boxes, side * side, num_masks)
    rows, columns = np.divmod(np.arange(side * side), side)
    peak_row, peak_column = np.divmod(flat.argmax(axis=1), side)
    away = np.maximum(abs(rows[:, None] - peak_row[:, None]), abs(columns[:, None] - peak_column[:, None]))
    peaks = np.stack([peak_column, peak_row], axis=-1) + 0.5
    means = {
        "cells": np.exp(-(flat * np.log(np.maximum(flat, 1e-30))).sum(axis=1)),
        "far": (flat * (away >= FAR)).sum(axis=1),
        "in_corner": (abs(peaks - side / 2) > side / 2 - CORNER).all(axis=-1),
        "peak_to_centre": np.linalg.norm(peaks - centres, axis=-1),
        "centre_to_middle": np.linalg.norm(centres - side / 2, axis=-1),
    }
    return {name: [round(float(mean), 3) for mean in values.mean(axis=0)] for name, values in means.items()}
