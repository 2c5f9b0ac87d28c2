"""Pictures of an evaluation: samples of the set, the most costly mistakes, and likely faults of the annotations."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from pycocotools import mask as coco_masks

from lga_jax.data.source import Source, UnreadableImageError, truth_of
from lga_jax.drawing.close_ups import draw_close_ups
from lga_jax.drawing.pictures import draw_detections
from lga_jax.errors import counted
from lga_jax.evaluation.analysis import Analysis, LabelError
from lga_jax.evaluation.evaluate import EvalResult
from lga_jax.evaluation.mistakes import KINDS, Mistake, image_costs
from lga_jax.report.analysis_sections import threshold_of

_NUM_SAMPLES = 24
_NUM_IMAGES = 8
_NUM_PER_KIND = 4
_ROOM = 0.75  # around the boxes of a mistake, in long sides of the boxes
_LEAST_CROP = 96  # pixels
_MOST_KEPT = 2**28  # bytes of decoded images: a costly image is on several sheets


class Picture(NamedTuple):
    """One entry of a sheet."""

    caption: str
    image: UInt8[np.ndarray, "h w 3"]


class Sheet(NamedTuple):
    """Pictures below a heading and a sentence."""

    title: str
    text: str
    pictures: list[Picture]


class _Gallery:
    """The images of a source with their boxes, by image id."""

    def __init__(self, source: Source, result: EvalResult, threshold: float) -> None:
        self.truth = truth_of(source)
        self.names = {category["id"]: category["name"] for category in self.truth["categories"]}
        self.entries = {entry["id"]: entry for entry in self.truth["images"]}
        self.objects, self.found = (defaultdict(list) for _ in range(2))
        for boxes, by_image in ((self.truth["annotations"], self.objects), (result.detections, self.found)):
            for box in boxes:
                by_image[box["image_id"]].append(box)
        self.detections, self.threshold, self._source = result.detections, threshold, source
        self._positions = {record.image_id: position for position, record in enumerate(source.records)}
        self._kept: dict[int | str, UInt8[np.ndarray, "h w 3"]] = {}
        self._room = _MOST_KEPT

    def image(self, image_id: int | str) -> UInt8[np.ndarray, "h w 3"] | None:
        """The pixels, not to be changed; None if they cannot be read, which the loader has reported."""
        if image_id in self._kept:
            return self._kept[image_id]
        try:
            image = self._source.image(self._positions[image_id])
        except UnreadableImageError:
            return None
        if image.nbytes <= self._room:
            self._kept[image_id], self._room = image, self._room - image.nbytes
        return image

    def name(self, image_id: int | str) -> str:
        return str(self.entries[image_id].get("file_name", image_id))

    def kept(self, image_id: int | str) -> list[dict]:
        """The detections of an image with at least the threshold."""
        return [detection for detection in self.found[image_id] if detection["score"] >= self.threshold]


def sheets(source: Source, result: EvalResult) -> Iterator[Sheet]:
    """All sheets with pictures, most useful first."""
    threshold = 0.5 if result.analysis is None else threshold_of(result.analysis)
    gallery = _Gallery(source, result, threshold)
    drawn = f"Detections with a score of at least {threshold:.2f} are drawn. A click shows the full size."
    if result.analysis:
        yield from _mistake_sheets(gallery, result.analysis.mistakes)
        if result.segm_analysis:
            yield _poor_masks(gallery, result.analysis, result.segm_analysis)
        costs = islice(image_costs(result.analysis.mistakes).items(), _NUM_IMAGES)
        worst = (_whole(gallery, image_id, f"costs {cost:.4f} of AP50; ") for image_id, cost in costs)
        yield Sheet("Images that cost most", drawn, [picture for picture in worst if picture])
        labels = (_label_picture(gallery, error) for error in result.analysis.label_errors[:_NUM_IMAGES])
        text = "Confident detections without an object, or on an object of another class that is not found otherwise."
        yield Sheet("Annotations to check", text, [picture for picture in labels if picture])
    chosen = choose_images(gallery.truth["images"], _NUM_SAMPLES)
    samples = (_whole(gallery, gallery.truth["images"][place]["id"]) for place in chosen)
    yield Sheet("Images of the set", drawn, [picture for picture in samples if picture])


def choose_images(images: Sequence[dict], count: int) -> list[int]:
    """Positions of up to `count` COCO images: challenges and severities in turn; without them, evenly spread."""
    groups = defaultdict(list)
    for position, image in enumerate(images):
        groups[image.get("challenge"), image.get("severity")].append(position)
    if len(groups) == 1:
        return sorted(set(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int).tolist()))
    in_turn = chain.from_iterable(zip_longest(*groups.values()))
    return [position for position in in_turn if position is not None][:count]


def _mistake_sheets(gallery: _Gallery, mistakes: Sequence[Mistake]) -> Iterator[Sheet]:
    """One sheet per kind of mistake, the kind with the highest total cost first."""
    by_kind = defaultdict(list)
    for mistake in mistakes:
        by_kind[mistake.kind].append(mistake)
    for kind, some in sorted(by_kind.items(), key=lambda entry: -sum(mistake.cost for mistake in entry[1])):
        pictures = (_mistake_picture(gallery, mistake) for mistake in some[:_NUM_PER_KIND])
        title = f"{kind.replace('_', ' ').capitalize()}: {len(some)}"
        text = f"{KINDS[kind][0].upper()}{KINDS[kind][1:]}; score at least {gallery.threshold:.2f}. The most costly:"
        yield Sheet(title, text, [picture for picture in pictures if picture])


def _poor_masks(gallery: _Gallery, boxes: Analysis, segm: Analysis) -> Sheet:
    """The most costly masks that overlap an object of their class too little, although their boxes are right."""
    wrong = {mistake.detection for mistake in boxes.mistakes}
    poor = [mistake for mistake in segm.mistakes if mistake.kind == "poor_box" and mistake.detection not in wrong]
    pictures = (_mistake_picture(gallery, mistake) for mistake in poor[:_NUM_PER_KIND])
    text = f"The box is right. The mask: {KINDS['poor_box']}; score at least {threshold_of(segm):.2f}. The most costly:"
    return Sheet(f"Poor mask: {len(poor)}", text, [picture for picture in pictures if picture])


def _mistake_picture(gallery: _Gallery, mistake: Mistake) -> Picture | None:
    found, real = _boxes(gallery, mistake)
    about = _described(gallery, found, real)
    if mistake.kind == "missed" and found:
        about = f"{gallery.names[found['category_id']]}, found with a score of {found['score']:.2f} only"
    words = f"{about}; costs {mistake.cost:.4f} of AP50; {gallery.name(mistake.image_id)}"
    return _crop(gallery, mistake.image_id, found, real, words)


def _label_picture(gallery: _Gallery, error: LabelError) -> Picture | None:
    found, real = _boxes(gallery, error)
    words = f"{_described(gallery, found, real)}; {gallery.name(error.image_id)}"
    return _crop(gallery, error.image_id, found, real, words)


def _boxes(gallery: _Gallery, entry: Mistake | LabelError) -> tuple[dict | None, dict | None]:
    """The detection and the object."""
    found = None if entry.detection is None else gallery.detections[entry.detection]
    real = None if entry.annotation is None else gallery.truth["annotations"][entry.annotation]
    return found, real


def _described(gallery: _Gallery, found: dict | None, real: dict | None) -> str:
    parts = [f"detected {gallery.names[found['category_id']]} {found['score']:.2f}" if found else "not detected"]
    return ", ".join([*parts, *([f"object {gallery.names[real['category_id']]}"] if real else ["no object"])])


def _crop(
    gallery: _Gallery, image_id: int | str, found: dict | None, real: dict | None, caption: str
) -> Picture | None:
    """The surroundings of a detection and an object, with no other box; below, what the detection's masks look at."""
    image = gallery.image(image_id)
    if image is None:
        return None
    window = _surroundings([box["bbox"] for box in (found, real) if box], image.shape[:2])
    left, top, right, bottom = window
    shown = [[_moved(box, window)] if box else [] for box in (found, real)]
    picture = draw_detections(image[top:bottom, left:right], shown[0], gallery.names, shown[1])
    close_ups = draw_close_ups(image, [found] if found else [], gallery.names, picture.shape[1])
    return Picture(caption, np.concatenate([picture, close_ups]))


def _surroundings(boxes: Sequence[Sequence[float]], hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x1, y1, x2, y2) of the part of an image around boxes (x, y, width, height)."""
    corners = np.array([(x, y, x + width, y + height) for x, y, width, height in boxes])
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    half = np.maximum((high - low) / 2 + _ROOM * (high - low).max(), _LEAST_CROP / 2)
    limits = np.array(hw[::-1])
    low, high = (np.clip((low + high) / 2 + sign * half, 0, limits).round().astype(int) for sign in (-1, 1))
    low = np.minimum(low, limits - 1)
    return (*low.tolist(), *np.maximum(high, low + 1).tolist())


def _moved(box: Mapping[str, Any], window: tuple[int, int, int, int]) -> dict[str, Any]:
    """The box and the object mask in pixels of a crop, without Gaussian masks and part."""
    left, top, right, bottom = window
    x, y, width, height = box["bbox"]
    moved = {key: box[key] for key in ("category_id", "score") if key in box}
    if "segmentation" in box:
        pixels = coco_masks.decode(box["segmentation"])[top:bottom, left:right]
        moved["segmentation"] = coco_masks.encode(np.asfortranarray(pixels))
    return {**moved, "bbox": (x - left, y - top, width, height)}


def _whole(gallery: _Gallery, image_id: int | str, before: str = "") -> Picture | None:
    """An image with its objects and its detections above the threshold."""
    image = gallery.image(image_id)
    if image is None:
        return None
    kept, objects = gallery.kept(image_id), gallery.objects[image_id]
    lower = len(gallery.found[image_id]) - len(kept)
    words = f"{counted(len(objects), 'object')}, {counted(len(kept), 'detection')}, {lower} below the threshold"
    caption = f"{_titled(gallery.entries[image_id])}: {before}{words}"
    return Picture(caption, draw_detections(image, kept, gallery.names, objects))


def _titled(entry: Mapping[str, Any]) -> str:
    name = str(entry.get("file_name", entry["id"]))
    if "challenge" not in entry:
        return name
    severity = f", severity {entry['severity']}" if entry["severity"] else ""
    return f"{name}, {entry['challenge'].replace('_', ' ')}{severity}"
