"""Questions about the arrays of a weight file that several families ask."""

from lga_jax.errors import UserError
from lga_jax.weights.files import Weights
from lga_jax.weights.layouts import Layout

# Settings in the description of a file's pixels that backbones with layer norms do not have.
WITHOUT_EFFECT = frozenset({"backbone.stride_in_1x1", "backbone.norm_eps"})


def size_of(layout: Layout, weights: Weights, key: str, axis: int) -> int:
    """The length of an axis of an array of the backbone, by our name; 0 without the array or the axis."""
    name = layout.name_of(f"params/backbone/{key}", weights.arrays)
    shape = weights.arrays[name].shape if name else ()
    return shape[axis] if axis < len(shape) else 0


def refuse_variants(layout: Layout, weights: Weights, *, expected: str, about: str, remedy: str) -> None:
    """Raises UserError if the file has an array that the plain network lacks. `about`: where such arrays occur."""
    for name in weights.arrays:
        if layout.backbone.match(name) and not layout.plain.match(name) and not layout.ignored.match(name):
            raise UserError(f"weights {weights.where}", expected=expected, found=f"{name}, {about}", remedy=remedy)
