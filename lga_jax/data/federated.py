"""LVIS's lists: the classes of an image for which the absence of a box means the absence of an object.

LVIS (Gupta, Dollár and Girshick 2019) annotates some classes in each image, not all. `neg_category_ids` of an image are
classes that annotators did not find there. `not_exhaustive_category_ids` are classes of which some objects have no box.
Nothing is known about classes that have neither a box nor an entry in a list.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int

NEGATIVE, NOT_EXHAUSTIVE = LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


def has_lists(truth: Mapping) -> bool:
    """Whether the images of a ground truth have the lists; then all of them do."""
    return any(NEGATIVE in image for image in truth["images"])


def verified_labels(truth: Mapping, category_ids: Iterable[int]) -> list[Int[np.ndarray, "_"]] | None:
    """The verified classes of each image of a checked file; None if all are, because the file has no lists.

    Verified are classes with a box or in the negative list, without those annotated only in part. A background RoI is
    certainly no object of a verified class. LVIS's evaluation counts false detections of the same classes.
    """
    if not has_lists(truth):
        return None
    label = {category: i for i, category in enumerate(category_ids)}
    annotated = defaultdict(set)
    for annotation in truth["annotations"]:
        annotated[annotation["image_id"]].add(annotation["category_id"])
    return [
        _labels(annotated[image["id"]].union(image[NEGATIVE]).difference(image[NOT_EXHAUSTIVE]), label)
        for image in truth["images"]
    ]


def _labels(ids: Iterable[int], label: Mapping[int, int]) -> Int[np.ndarray, "_"]:
    return np.array(sorted(label[category] for category in ids), np.int32)


def report_lists(truth: Mapping, verified: Sequence[Int[np.ndarray, "_"]] | None) -> Iterator[str]:
    """Report lines about the lists, or about LVIS's categories without them."""
    if verified is not None:
        mean = np.mean([len(labels) for labels in verified])
        yield (
            f"lists of verified classes as in LVIS: {mean:.1f} of {len(truth['categories'])} classes per image; "
            "losses and scores leave the others out (losses.federated)"
        )
    elif any("frequency" in category for category in truth["categories"]):
        yield (
            f"categories have LVIS's `frequency`, but images have no {' and '.join(LISTS)}: read as plain COCO, where "
            "an object without a box counts as background"
        )
