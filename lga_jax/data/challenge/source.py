"""The challenge set: generated images of vehicles whose classes differ only in a small part, under six challenges.

The six challenges are those of section I of the LGA R-CNN paper; docs/challenge.md shows them. Images and annotations
are a pure function of (seed, index), the same bytes on every machine, without files.
"""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from lga_jax.data.challenge.drawing import draw_scene
from lga_jax.data.challenge.random_ints import RandomInts
from lga_jax.data.challenge.scene import CHALLENGES, PAINT, PLAIN, Mixture, Scene, boxes_in_pixels, make_scene
from lga_jax.data.challenge.vehicles import CLASS_NAMES
from lga_jax.data.object_masks import ObjectMask, Polygons
from lga_jax.data.source import MaskCounts, Record
from lga_jax.errors import UserError, counted

_VERSION = 1  # raise it when the image of a (seed, index) changes


class Challenge:
    """A Source of `num_images` generated images.

    challenges: names drawn with equal probability, one per image; a name given twice is drawn twice as often.
    severities: drawn with equal probability for images that are not plain.
    An image can have fewer than min_objects vehicles if no more fit, and one close vehicle for `scale`; never none.
    """

    class_names = CLASS_NAMES

    def __init__(
        self,
        num_images: int,
        seed: int = 0,
        image_hw: Sequence[int] = (160, 160),
        challenges: Sequence[str] = CHALLENGES,
        severities: Sequence[int] = (1, 2, 3),
        min_objects: int = 1,
        max_objects: int = 4,
    ) -> None:
        self._seed = seed
        self._mixture = Mixture(tuple(image_hw), tuple(challenges), tuple(severities), min_objects, max_objects)
        _check(num_images, seed, self._mixture)
        scenes = [make_scene(seed, index, self._mixture) for index in range(num_images)]
        self.records = [_record(index, scene, self._mixture.image_hw) for index, scene in enumerate(scenes)]
        self.parts: list[Float[np.ndarray, "n 4"]] = [
            boxes_in_pixels([vehicle.part_box for vehicle in scene.vehicles]) for scene in scenes
        ]
        self.challenges = [(scene.challenge, scene.severity) for scene in scenes]
        settings = json.dumps([_VERSION, num_images, seed, self._mixture])
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()
        self.report = self._describe()

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of records[index], drawn at every call."""
        index = range(len(self.records))[index]
        scene = make_scene(self._seed, index, self._mixture)
        return draw_scene(scene, RandomInts(self._seed, index, PAINT), self._mixture.image_hw)

    def object_masks(self, index: int) -> list[ObjectMask]:
        """The mask of each vehicle of records[index], whatever lies over it: another vehicle, smoke or flames."""
        scene = make_scene(self._seed, range(len(self.records))[index], self._mixture)
        # The middle of a corner's half-pixel is half a half-pixel further.
        outlines = ([(part + 0.5) / 2 for part in one.outline] for one in scene.vehicles)
        return [Polygons(tuple(parts)) for parts in outlines]

    def mask_counts(self) -> list[MaskCounts]:
        """Every vehicle has a mask."""
        return [MaskCounts("", sum(len(record.labels) for record in self.records), {})]

    def truth(self) -> dict:
        """COCO ground truth; every annotation has its `part_bbox`, every image its `challenge` and `severity`.

        `area` is the area of the box.
        """
        images, annotations = [], []
        for record, parts, (challenge, severity) in zip(self.records, self.parts, self.challenges, strict=True):
            images.append(
                {
                    "id": record.image_id,
                    "file_name": f"{record.image_id:06d}.png",
                    "height": record.height,
                    "width": record.width,
                    "challenge": challenge,
                    "severity": severity,
                }
            )
            for box, part, label in zip(record.boxes_original, parts, record.labels, strict=True):
                bbox = _xywh(box)
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # pycocotools treats id 0 as "no match"
                        "image_id": record.image_id,
                        "category_id": int(label) + 1,
                        "bbox": bbox,
                        "area": bbox[2] * bbox[3],
                        "iscrowd": 0,
                        "part_bbox": _xywh(part),
                    }
                )
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASS_NAMES)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _describe(self) -> list[str]:
        counts = Counter(
            challenge if challenge == PLAIN else f"{challenge} {severity}" for challenge, severity in self.challenges
        )
        vehicles = sum(len(record.labels) for record in self.records)
        num_images = counted(len(self.records), "image")
        lines = [f"challenge set, seed {self._seed}: {num_images}, {counted(vehicles, 'vehicle')}"]
        return lines + [f"{name}: {counted(count, 'image')}" for name, count in sorted(counts.items())]


def export(source: Challenge, root: str | Path) -> None:
    """Writes images/NNNNNN.png and annotations/instances.json under `root`, a folder with COCO JSON and its masks.

    Raises UserError if `root` is a file or not empty.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(
            f"export folder {root}",
            expected="a new or empty folder",
            found="a folder with content" if root.is_dir() else "a file",
            remedy="name another one",
        )
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    coco = source.truth()
    masks = [mask for index in range(len(source.records)) for mask in source.object_masks(index)]
    for annotation, mask in zip(coco["annotations"], masks, strict=True):
        annotation["segmentation"] = [part.ravel().tolist() for part in mask.parts]
    for index, entry in enumerate(coco["images"]):
        path = root / "images" / entry["file_name"]
        if not cv2.imwrite(str(path), source.image(index)[..., ::-1]):
            raise UserError(
                f"export folder {root}",
                expected=f"a folder where {path.name} can be written",
                found="a write error",
                remedy="free space or name another folder",
            )
    (root / "annotations" / "instances.json").write_text(json.dumps(coco))


def _record(index: int, scene: Scene, image_hw: tuple[int, int]) -> Record:
    boxes = boxes_in_pixels([vehicle.box for vehicle in scene.vehicles])
    labels = np.array([vehicle.shape.label for vehicle in scene.vehicles], np.int32)
    return Record(index, *image_hw, boxes, labels, np.zeros(len(labels), bool))


def _xywh(box: Float[np.ndarray, "4"]) -> list[float]:
    left, top, right, bottom = box.tolist()
    return [left, top, right - left, bottom - top]


def _check(num_images: int, seed: int, mixture: Mixture) -> None:
    if num_images < 1:
        raise UserError(
            "num_images",
            expected="at least 1",
            found=str(num_images),
            remedy="set it to the number of images",
        )
    if not 0 <= seed < 2**63:
        raise UserError(
            "seed",
            expected="0 to 2**63 - 1",
            found=str(seed),
            remedy="choose another seed",
        )
    if len(mixture.image_hw) != 2 or min(mixture.image_hw) < 64:
        raise UserError(
            "image_hw",
            expected="(height, width) of at least 64 pixels",
            found=str(mixture.image_hw),
            remedy="raise it",
        )
    for name in mixture.challenges or ("",):
        if name not in CHALLENGES:
            near = difflib.get_close_matches(name, CHALLENGES, 1) or ["plain"]
            raise UserError(
                "challenges",
                expected=f"names from {CHALLENGES}",
                found=f"{name!r}",
                remedy=f"did you mean {near[0]!r}?",
            )
    if not mixture.severities or not set(mixture.severities) <= {1, 2, 3}:
        raise UserError(
            "severities",
            expected="some of 1, 2, 3",
            found=str(mixture.severities),
            remedy="correct them",
        )
    if not 1 <= mixture.min_objects <= mixture.max_objects:
        found = f"{mixture.min_objects} and {mixture.max_objects}"
        raise UserError(
            "min_objects, max_objects",
            expected="1 <= min <= max",
            found=found,
            remedy="correct them",
        )
