"""The flags of test-time augmentation and tiles, for commands that predict."""

from collections.abc import Callable
from typing import Any

from absl import flags


def define_views() -> Callable[[], dict[str, Any]]:
    """Defines the flags. Returns a function that reads them as the fields of lga_jax.inference.views.Views."""
    flip = flags.DEFINE_boolean("flip", False, "Also predict every image mirrored, and merge.")
    scales = flags.DEFINE_list("scales", "1", "Predict at these factors of the usual size, and merge: 1,1.5.")
    tile = flags.DEFINE_integer("tile", 0, "Also predict square tiles of this side in pixels; 0: none.", lower_bound=0)
    overlap = flags.DEFINE_float("overlap", 0.25, "Least share of its side that a tile shares with its neighbour.")
    merge = flags.DEFINE_enum("merge", "nms", ["nms", "wbf"], "Merge views by NMS or by weighted boxes fusion.")

    def _are_numbers(values: list[str]) -> bool:
        try:
            return bool([float(value) for value in values])
        except ValueError:
            return False

    flags.register_validator("scales", _are_numbers, message="expected numbers, as 1,1.5")
    return lambda: dict(
        flip=flip.value,
        scales=tuple(map(float, scales.value)),
        tile=tile.value,
        overlap=overlap.value,
        merge=merge.value,
    )
