"""Labels the frozen parameters of the detector."""

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
