from types import SimpleNamespace

import numpy as np

from studies.attention.workdir import Subset

WHOLE = SimpleNamespace(
    class_names=("ace",),
    report="five images",
    records=[SimpleNamespace(image_id=10 + number) for number in range(5)],
    fingerprint="f",
    image=lambda index: np.full((1, 1, 3), index, np.uint8),
    truth=lambda: {
        "images": [{"id": 10 + number} for number in range(5)],
        "annotations": [{"id": 1, "image_id": 11}, {"id": 2, "image_id": 14}],
        "categories": [{"id": 1, "name": "ace"}],
    },
)


def test_a_subset_has_its_own_images_and_their_truth():
    part = Subset(WHOLE, (1, 3))
    assert [record.image_id for record in part.records] == [11, 13] and part.image(1)[0, 0, 0] == 3
    truth = part.truth()
    assert [image["id"] for image in truth["images"]] == [11, 13]
    assert [box["id"] for box in truth["annotations"]] == [1] and truth["categories"][0]["name"] == "ace"
    assert part.fingerprint not in ("f", Subset(WHOLE, (1, 2)).fingerprint)
