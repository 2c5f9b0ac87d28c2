"""Which objects of which other image are pasted into an image: drawn here, laid in by `batches.paste`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from ml_collections import ConfigDict

from lga_jax.data.augment.view import HW, View, draw_view
from lga_jax.data.source import Record

_PASTED = 0.5  # share of the objects of an image


class Donor(NamedTuple):
    """An image whose objects are pasted."""

    index: int  # position in the source
    view: View
    pasted: Bool[np.ndarray, "n"]  # which of its boxes


def draw_donor(
    rng: np.random.Generator, records: Sequence[Record], bucket_hw: HW, data_config: ConfigDict
) -> Donor | None:
    """With the config's probability any image and some of its objects, never crowds; its view is one for the bucket."""
    if rng.random() >= data_config.copy_paste:
        return None
    index = int(rng.integers(len(records)))
    record = records[index]
    view = draw_view(rng, (record.height, record.width), bucket_hw, data_config)
    return Donor(index, view, (rng.random(len(record.crowd)) < _PASTED) & ~record.crowd)
