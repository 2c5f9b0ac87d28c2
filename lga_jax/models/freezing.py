"""What the parts of the backbone mean for training: frozen parameters, and factors of the learning rate."""

from typing import Any

import jax

from lga_jax.models.backbones import Backbone


def frozen_labels(params: dict, backbone: Backbone) -> dict:
    """'trained' or 'frozen' for every parameter of the detector, in the structure of `params`.

    The first `backbone.frozen_stages` parts of the backbone are frozen. A tree of statistics is labelled the same way.
    """

    def label(path: tuple, _: Any) -> str:
        first, *others = (part.key for part in path)
        frozen = first == "backbone" and backbone.part_of(tuple(others)) < backbone.frozen_stages
        return "frozen" if frozen else "trained"

    return jax.tree_util.tree_map_with_path(label, params)


def rate_factors(params: dict, backbone: Backbone, decay: float) -> dict | None:
    """A factor of the learning rate for every parameter of the detector, in the structure of `params`.

    Layer-wise decay (BEiT, Bao et al. 2022): the last layer of the backbone gets `decay`, the layer before it decay^2,
    ..., the stem the smallest factor; all other parameters get 1. The layers are those of the backbone's `rate_power`,
    or else its parts. None if `decay` is 1.
    """
    if decay == 1.0:
        return None
    num_parts = 1 + len(backbone.strides)
    power = getattr(backbone, "rate_power", lambda path: max(0, num_parts - backbone.part_of(path)))

    def factor(path: tuple, _: Any) -> float:
        first, *others = (part.key for part in path)
        return decay ** power(tuple(others)) if first == "backbone" else 1.0

    return jax.tree_util.tree_map_with_path(factor, params)
