"""How often an epoch of training sees an image: more often if it shows classes that few images show.

The rule is that of LVIS (Gupta, Dollár and Girshick 2019), as Detectron2's RepeatFactorTrainingSampler has it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from lga_jax.data.source import Record


def repeat_factors(records: Sequence[Record], threshold: float) -> Float[np.ndarray, "n"]:
    """What to multiply the weight of each image by, at least 1.

    A class that a share f of what an epoch sees shows asks for sqrt(threshold / f), and an image follows the rarest of
    its classes. Crowds are not trained on and show nothing. A `threshold` of 0 repeats nothing.
    """
    num_boxes = [len(record.labels) for record in records]
    trained = ~np.concatenate([record.crowd for record in records])
    image = np.repeat(np.arange(len(records)), num_boxes)[trained]
    label = np.concatenate([record.labels for record in records])[trained]
    factors = np.ones(len(records))
    if threshold and len(label):
        weights = np.array([record.weight for record in records])
        shown_in, shown = np.unique(np.stack([image, label]), axis=1)  # a class once for each image that shows it
        share = np.bincount(shown, weights[shown_in]) / weights.sum()
        np.maximum.at(factors, image, np.sqrt(threshold / share[label]))
    return factors


def report_repeats(factors: Float[np.ndarray, "n"], threshold: float) -> list[str]:
    """One line for people if images are repeated, none otherwise."""
    repeated = factors[factors > 1]
    if not len(repeated):
        return []
    who = f"{len(repeated)} of {len(factors)} images show a class that a share below {threshold:g} of them does"
    how = f"an epoch sees these {repeated.mean():.2f} times as often in the mean, and up to {factors.max():.1f} times"
    return [f"{who} (data.repeat_threshold): {how}"]
