"""The weights of the classes in the class loss."""

from collections.abc import Sequence

import numpy as np

from lga_jax.data.source import Record
from lga_jax.errors import UserError, counted


def class_weights(
    given: tuple[float, ...], balance: bool, records: Sequence[Record], num_classes: int
) -> tuple[float, ...]:
    """One weight per class, or () if all are 1. Raises UserError for a wrong number of weights.

    Args:
        given: losses.class_weights.
        balance: compute weights b / (k n) from the number n of a class's boxes, with b boxes of k classes. Every class
            then has the same total weight, and the boxes have the mean weight 1. A class without boxes gets 1.
        records: the annotations to train on.
        num_classes: the number k of classes.
    """
    if given and len(given) != num_classes:
        raise UserError(
            "losses.class_weights",
            expected=f"{counted(num_classes, 'weight')}, one per class",
            found=str(len(given)),
            remedy="correct the recipe",
        )
    if not balance:
        return given
    counts = np.zeros(num_classes, np.int64)
    for record in records:
        counts += np.bincount(record.labels[~record.crowd], minlength=num_classes)
    present = counts > 0
    weights = counts.sum() / np.maximum(present.sum() * counts, 1)
    return tuple(np.where(present, weights, 1.0).tolist())
