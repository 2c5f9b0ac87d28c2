"""Examines the data sets of a recipe and collects all faults, whereas training stops at the first one.

Nothing in the data is trusted, and nothing is written.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, pairwise, zip_longest
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from lga_jax.data.doctor.findings import Case, Finding, Findings
from lga_jax.data.doctor.open_faulty import OpenedSource, from_source, open_faulty
from lga_jax.data.faulty import is_beyond_chance
from lga_jax.data.object_masks import Polygons, crosses_itself
from lga_jax.data.source import Record, Source
from lga_jax.errors import UserError, counted, name_differences, printable, shown

_SIZE_EDGES = (8, 16, 32, 64, 96, 128, 256, 512)  # pixels; COCO divides small, medium and large at 32 and 96
_NUM_FAULTY_IMAGES = 24
_NEAR = 0.9  # IoU of an object annotated twice; two objects overlap less, even in COCO
_CHUNK = 256  # boxes compared with all others at a time; an image can have 100,000
_HASH = np.array(  # random odd numbers; products and sums wrap around
    [
        0x9E3779B97F4A7C15,
        0xBF58476D1CE4E5B9,
        0x94D049BB133111EB,
        0xD6E8FEB86659FD93,
        0xA0761D6478BD642F,
        0xE7037ED1A0B428DB,
    ],
    np.uint64,
)


class FaultyImage(NamedTuple):
    """An image with faults, for the HTML report."""

    name: str
    faults: dict[str, int]  # kind of error or warning -> count
    record: Record
    faulty_boxes: list[Sequence[float]]  # [x, y, width, height] as annotated; may be unusable
    read: Callable[[], UInt8[np.ndarray, "h w 3"]]  # raises UserError


class SourceReport(NamedTuple):
    """Content and findings of one source."""

    about: list[str]  # report lines
    num_images: int
    class_boxes: dict[str, int]  # class -> boxes, without crowds
    box_sizes: dict[str, int]  # root of the area in stored pixels -> boxes, without crowds
    findings: list[Finding]  # errors first
    faulty_images: list[FaultyImage]  # some of each kind of fault, errors first


class Report(NamedTuple):
    """All findings of the doctor."""

    sources: dict[str, SourceReport]  # "data.train", "data.eval"; for mixed sets "data.train.parts.NAME"
    between: list[Finding]  # between data.train and data.eval

    def findings(self) -> list[Finding]:
        """The findings of all sources and between them."""
        return [finding for source_report in self.sources.values() for finding in source_report.findings] + self.between


def examine(data_config: ConfigDict, quick: bool, object_masks: bool = False) -> Report:
    """Examines data.train and data.eval of a recipe, and each part of a mixed set.

    object_masks: examine the masks of the objects too.
    quick: skip the images. Otherwise a progress bar on stderr shows the reading.
    Raises UserError if no data set can be opened.
    """
    sources, sets = {}, []
    for name in ("train", "eval"):
        opened_sources = []
        for place, arguments in _parts(f"data.{name}", data_config[name].to_dict()):
            findings = Findings()
            opened = open_faulty(arguments, findings, object_masks)
            if opened is None:
                sources[place] = SourceReport([], 0, {}, {}, findings.listed(), [])
                continue
            class_boxes = _check_classes(opened, findings)
            _check_records(opened, findings, data_config.max_boxes)
            _check_share(opened, findings, data_config.max_faulty)
            _check_masks(opened, findings)
            if not quick:
                opened = _check_images(opened, findings, place, data_config.num_workers)
            _check_repeated(opened, findings)
            _check_nearly_repeated(opened, findings)
            sources[place] = SourceReport(
                about=opened.about,
                num_images=len(opened.records),
                class_boxes=class_boxes,
                box_sizes=_box_sizes(opened.records),
                findings=findings.listed(),
                faulty_images=_faulty_images(opened, findings),
            )
            opened_sources.append(opened)
        sets.append(opened_sources)
    if not any(sets):
        place, source_report = next(iter(sources.items()))
        raise UserError(f"{place}: {source_report.findings[0].cases[0]}")  # the error of opening it
    between = Findings()
    if len(sources) == 2 and all(sets):  # for mixed sets, the recipe chooses the classes
        _check_class_lists(*sets[0], *sets[1], between)
    _check_overlap(*sets, between)
    return Report(sources, between.listed())


def _parts(place: str, arguments: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and settings of the source, or of each part of a mixed source, in data.train or data.eval."""
    if arguments.get("source") != "mixed":
        return [(place, arguments)]
    parts = arguments.get("parts", {}).items()
    return [(f"{place}.parts.{name}", {k: v for k, v in part.items() if k != "weight"}) for name, part in parts]


def quick_warnings(source: Source, eval_source: Source) -> list[str]:
    """Warnings at the start of training, from the annotations only: one report line for each kind.

    Contains only findings that are not in `Source.report` or in the report of a loader.
    """
    train, evaluation = from_source(source), from_source(eval_source)
    findings = {"data.train": Findings(), "data.eval": Findings(), "data": Findings()}
    _check_classes(train, findings["data.train"])
    _check_repeated(train, findings["data.train"])
    _check_repeated(evaluation, findings["data.eval"])
    _check_overlap([train], [evaluation], findings["data"])
    lines = [
        f"{name}: {finding.text} (first {printable(str(finding.cases[0]))}); {finding.remedy}"
        for name, found in findings.items()
        for finding in found.listed()
    ]
    return [*lines, "lga_jax doctor --config RECIPE lists all of them"] if lines else []


def _check_classes(opened: OpenedSource, findings: Findings) -> dict[str, int]:
    """Counts the boxes of each class and adds findings about classes without boxes."""
    labels = np.concatenate([np.zeros(0, np.int32), *(record.labels for record in opened.records)])
    labels = labels[~np.concatenate([np.zeros(0, bool), *(record.crowd for record in opened.records)])]
    counts = np.bincount(labels, minlength=len(opened.class_names)).tolist()
    class_boxes = dict(zip(opened.class_names, counts, strict=True))
    if not opened.records:
        return class_boxes
    if not len(labels):
        findings.add("no_boxes", Case(counted(len(opened.records), "image")))
    else:
        for name in (name for name, count in class_boxes.items() if not count):
            findings.add("class_without_boxes", Case(name))
    return class_boxes


def _check_records(opened: OpenedSource, findings: Findings, max_boxes: int | None) -> None:
    for index, record in enumerate(opened.records):
        for row in np.flatnonzero(record.crowd).tolist():
            _add_box(opened, findings, "crowd", index, row)
        num_boxes = int((~record.crowd).sum())
        if num_boxes == 0:
            findings.add("empty", opened.case(index))
        if max_boxes is not None and num_boxes > max_boxes:
            findings.add("overflow", opened.case(index, counted(num_boxes, "box")), index)


def _check_share(opened: OpenedSource, findings: Findings, largest_share: float) -> None:
    """Adds an error if training would refuse the set because of its unusable boxes."""
    for boxes in opened.unusable_boxes:
        if boxes.count and is_beyond_chance(boxes.count, boxes.total, largest_share):
            findings.add("many_unusable", Case(f"{boxes.count:,} of {counted(boxes.total, 'box')}"))


def _check_masks(opened: OpenedSource, findings: Findings) -> None:
    """Adds the faults of the object masks. A set without any mask is one error."""
    all_masks = [mask for masks in opened.masks for mask in masks]
    if all_masks and all(mask == "mask_missing" for mask in all_masks):
        findings.add("no_masks", Case(counted(len(all_masks), "box")))
        return
    for index, masks in enumerate(opened.masks):
        for row, mask in enumerate(masks):
            if isinstance(mask, str):
                _add_box(opened, findings, mask, index, row)
            elif isinstance(mask, Polygons) and any(map(crosses_itself, mask.parts)):
                _add_box(opened, findings, "mask_crosses", index, row)


def _check_images(opened: OpenedSource, findings: Findings, what: str, num_threads: int) -> OpenedSource:
    """Reads every image once. The returned source has equal identities for images of equal content."""
    number, identities = range(len(opened.records)), []
    workers = ThreadPoolExecutor(num_threads, thread_name_prefix="check")
    try:
        with tqdm(workers.map(opened.check, number), printable(what), len(number), unit="image") as checks:
            for index, check in enumerate(checks):
                for kind, detail in check.faults.items():
                    findings.add(kind, opened.case(index, detail), index)
                identities.append(check.identity or opened.identities[index])
    finally:
        workers.shutdown(cancel_futures=True)
    return opened._replace(identities=identities)


def _check_repeated(opened: OpenedSource, findings: Findings) -> None:
    first: dict[str, int] = {}
    for index, identity in enumerate(opened.identities):
        original = first.setdefault(identity, index)
        if original != index:
            findings.add("repeated_image", opened.case(index, f"the same as {opened.case(original)}"), index)
    for index, row in _repeated_boxes(opened.records):
        _add_box(opened, findings, "repeated_box", index, row)


def _check_nearly_repeated(opened: OpenedSource, findings: Findings) -> None:
    for index, record in enumerate(opened.records):
        for row in _nearly_repeated_boxes(record):
            _add_box(opened, findings, "nearly_repeated_box", index, row)


def _add_box(opened: OpenedSource, findings: Findings, kind: str, index: int, row: int) -> None:
    record = opened.records[index]
    x1, y1, x2, y2 = record.boxes_original[row].tolist()
    bbox = [x1, y1, x2 - x1, y2 - y1]
    findings.add(kind, opened.case(index, opened.class_names[record.labels[row]], bbox=bbox), index)


def _repeated_boxes(records: Sequence[Record]) -> list[tuple[int, int]]:
    """(image, row) of every box that equals an earlier box of the same image and class."""
    num_boxes = np.array([len(record.labels) for record in records], np.int64)
    if not num_boxes.sum():
        return []
    image = np.repeat(np.arange(len(records)), num_boxes)
    labels = np.concatenate([record.labels for record in records])
    boxes = np.concatenate([record.boxes_original for record in records]).astype(np.float32)
    rows = np.column_stack([image, labels, boxes.view(np.uint32)]).astype(np.uint64)
    # Four times faster than sorting rows: equal rows have equal hashes, and hash collisions are compared afterwards.
    order = np.argsort(rows @ _HASH, kind="stable")
    before, after = rows[order[:-1]], rows[order[1:]]
    repeated = order[1:][(before == after).all(axis=1)]
    starts = np.cumsum(num_boxes) - num_boxes
    return [(int(image[row]), int(row - starts[image[row]])) for row in np.sort(repeated)]


def _nearly_repeated_boxes(record: Record) -> list[int]:
    """The row of every box, without crowds, that nearly but not exactly equals an earlier box of its class."""
    kept = np.flatnonzero(~record.crowd)
    boxes, labels = record.boxes_original[kept].astype(np.float64), record.labels[kept]
    area, found = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), []
    for start in range(0, len(kept), _CHUNK):
        part, earlier = slice(start, start + _CHUNK), slice(start + _CHUNK)
        one, other = boxes[part, None], boxes[None, earlier]
        sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
        common = np.maximum(sides, 0).prod(axis=2)
        near = common >= _NEAR * (area[part, None] + area[None, earlier] - common)
        near &= (labels[part, None] == labels[None, earlier]) & (one != other).any(axis=2)
        found += kept[start + np.flatnonzero(np.tril(near, start - 1).any(axis=1))].tolist()
    return found


def _check_class_lists(trained: OpenedSource, evaluated: OpenedSource, findings: Findings) -> None:
    names, others = trained.class_names, evaluated.class_names
    if names and others and names != others:
        for name in sorted(set(names) ^ set(others)):
            place = "data.train" if name in names else "data.eval"
            findings.add("classes_differ", Case(f"{shown(name)} only in {place}"))
        if set(names) == set(others):
            findings.add("classes_differ", Case(name_differences(names, others, "data.train", "data.eval")))


def _check_overlap(trained: list[OpenedSource], evaluated: list[OpenedSource], findings: Findings) -> None:
    known = {identity: opened.case(index) for opened in trained for index, identity in enumerate(opened.identities)}
    for opened in evaluated:
        for index, identity in enumerate(opened.identities):
            if identity in known:
                findings.add("overlap", opened.case(index, f"the same as {known[identity]}"))


def _box_sizes(records: Sequence[Record]) -> dict[str, int]:
    boxes = np.concatenate([np.zeros((0, 4)), *(record.boxes_original[~record.crowd] for record in records)])
    sizes = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    counts = np.histogram(sizes, [0, *_SIZE_EDGES, np.inf])[0].tolist()
    names = [f"{low} to {high}" for low, high in pairwise((0, *_SIZE_EDGES))] + [f"from {_SIZE_EDGES[-1]}"]
    return dict(zip(names, counts, strict=True))


def _faulty_images(opened: OpenedSource, findings: Findings) -> list[FaultyImage]:
    """Some images of each kind of fault in turn, errors first, images with most faults first."""
    by_faults = sorted(findings.faults.items(), key=lambda item: -item[1].total())
    by_kind = [[index for index, faults in by_faults if finding.kind in faults] for finding in findings.listed()]
    in_turn = dict.fromkeys(chain.from_iterable(zip_longest(*by_kind)))
    return [
        FaultyImage(
            str(opened.case(index)),
            dict(findings.faults[index]),
            opened.records[index],
            findings.faulty_boxes[index],
            partial(opened.read, index),
        )
        for index in [index for index in in_turn if index is not None][:_NUM_FAULTY_IMAGES]
    ]
