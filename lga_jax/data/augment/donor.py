"""Copy-paste augmentation: draws the second image and its objects. `batches.paste` pastes them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from ml_collections import ConfigDict

from lga_jax.data.augment.view import HW, View, draw_view
from lga_jax.data.source import Record

_PASTED = 0.5  # share of the objects of an image


class Donor(NamedTuple):
    """The second image of copy-paste, and its pasted objects."""

    index: int  # position in the source
    view: View
    pasted: Bool[np.ndarray, "n"]  # True for each pasted box of the image


def draw_donor(
    rng: np.random.Generator, records: Sequence[Record], bucket_hw: HW, data_config: ConfigDict
) -> Donor | None:
    """Draws a random image, its augmentation for this bucket, and about half of its objects, never crowds.

    None with probability 1 - data.copy_paste.
    """
    if rng.random() >= data_config.copy_paste:
        return None
    index = int(rng.integers(len(records)))
    crowd, view = records[index].crowd, draw_view(rng, records[index], bucket_hw, data_config)
    return Donor(index, view, (rng.random(len(crowd)) < _PASTED) & ~crowd)
