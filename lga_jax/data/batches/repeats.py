"""Repeat factors: images of rare classes are shown more often in an epoch.

The rule is that of LVIS (Gupta, Dollár and Girshick 2019), as Detectron2's RepeatFactorTrainingSampler has it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from lga_jax.data.source import Record


def repeat_factors(records: Sequence[Record], threshold: float) -> Float[np.ndarray, "n"]:
    """The factor for the weight of each image, at least 1.

    A class that appears in a share f of the images of an epoch has the factor sqrt(threshold / f). An image takes the
    factor of its rarest class. Crowds do not count. A `threshold` of 0 repeats no image.
    """
    num_boxes = [len(record.labels) for record in records]
    trained = ~np.concatenate([record.crowd for record in records])
    image = np.repeat(np.arange(len(records)), num_boxes)[trained]
    label = np.concatenate([record.labels for record in records])[trained]
    factors = np.ones(len(records))
    if threshold and len(label):
        weights = np.array([record.weight for record in records])
        shown_in, shown = np.unique(np.stack([image, label]), axis=1)  # each class once per image
        share = np.bincount(shown, weights[shown_in]) / weights.sum()
        np.maximum.at(factors, image, np.sqrt(threshold / share[label]))
    return factors


def report_repeats(factors: Float[np.ndarray, "n"], threshold: float) -> list[str]:
    """One report line if images are repeated."""
    repeated = factors[factors > 1]
    if not len(repeated):
        return []
    who = f"{len(repeated)} of {len(factors)} images have a class found in a share below {threshold:g} of the images"
    how = f"an epoch shows them {repeated.mean():.2f} times as often on average, at most {factors.max():.1f} times"
    return [f"{who} (data.repeat_threshold): {how}"]
