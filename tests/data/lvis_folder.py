"""A folder of images with annotations of LVIS's form, small enough to know by heart."""

import json
from pathlib import Path

import cv2
import numpy as np

URL = "http://images.cocodataset.org/{}/{:012}.jpg"
HW = (64, 64)
# image: folder, boxes (category, x, y, w, h), negative list, list of classes annotated in part
IMAGES = {
    3: ("train2017", [(10, 8, 8, 24, 24), (30, 4, 40, 20, 16)], [20], []),
    5: ("val2017", [(30, 10, 10, 30, 30)], [10], [30]),
    9: ("train2017", [(20, 20, 20, 30, 40)], [], []),
    12: ("train2017", [], [40, 10], []),
}


def truth() -> dict:
    """Four images, categories 10 (rare), 20 (common), 30 and 40 (frequent)."""
    groups = {10: "r", 20: "c", 30: "f", 40: "f"}
    annotations = [
        {"image_id": image_id, "category_id": category, "bbox": list(box), "area": box[2] * box[3]}
        for image_id, (_, boxes, _, _) in IMAGES.items()
        for category, *box in boxes
    ]
    return {
        "images": [
            {
                "id": image_id,
                "coco_url": URL.format(folder, image_id),
                "height": HW[0],
                "width": HW[1],
                "neg_category_ids": negative,
                "not_exhaustive_category_ids": partly,
            }
            for image_id, (folder, _, negative, partly) in IMAGES.items()
        ],
        "categories": [{"id": i, "name": f"class_{i}", "frequency": group} for i, group in groups.items()],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
    }


def write(root: Path, content: dict | None = None) -> dict:
    """Writes the images and lvis.json; returns the settings of data.train."""
    rng = np.random.default_rng(0)
    for image_id, (folder, *_) in IMAGES.items():
        (root / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(root / folder / f"{image_id:012}.jpg"), rng.integers(0, 255, (*HW, 3), np.uint8))
    (root / "lvis.json").write_text(json.dumps(truth() if content is None else content))
    return dict(source="coco_json", root=str(root), annotations="lvis.json", images="", skip_empty=False)
