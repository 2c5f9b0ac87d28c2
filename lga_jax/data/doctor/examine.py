"""What is wrong with the sets of a recipe: every fault is counted and named, where training refuses the first.

Nothing that the data says is trusted, and nothing is written.
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
from lga_jax.data.doctor.open_faulty import Patient, as_patient, open_patient
from lga_jax.data.source import Record, Source
from lga_jax.errors import UserError, counted, printable

_SIZE_EDGES = (8, 16, 32, 64, 96, 128, 256, 512)  # pixels; COCO's small, medium and large meet at 32 and 96
_NUM_SUSPECTS = 24
_NEAR = 0.9  # IoU: a second click of the annotator; objects that are two overlap less, even in COCO
_CHUNK = 256  # boxes that are compared at a time with all: an image can have 100,000
_HASH = np.array(  # odd numbers without a pattern; products and sums wrap
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


class Suspect(NamedTuple):
    """An image with faults, for a picture of it."""

    name: str
    faults: dict[str, int]  # kind: how many, errors and warnings
    record: Record
    faulty_boxes: list[Sequence[float]]  # [x, y, width, height] as annotated; may be of no use
    read: Callable[[], UInt8[np.ndarray, "h w 3"]]  # raises UserError


class Checkup(NamedTuple):
    """What one source holds, and what is wrong with it."""

    about: list[str]  # lines for people
    num_images: int
    class_boxes: dict[str, int]  # boxes of each class, without crowds
    box_sizes: dict[str, int]  # boxes by the root of their area in pixels as stored, without crowds
    findings: list[Finding]  # the gravest first
    suspects: list[Suspect]  # some of each kind of fault, the gravest first


class Report(NamedTuple):
    """All that the doctor found."""

    checkups: dict[str, Checkup]  # "data.train", "data.eval"; of mixed sets "data.train.parts.NAME"
    between: list[Finding]  # about the two

    def findings(self) -> list[Finding]:
        """Of both sources, and about the two."""
        return [finding for checkup in self.checkups.values() for finding in checkup.findings] + self.between


def examine(data_config: ConfigDict, quick: bool) -> Report:
    """Looks at data.train and data.eval of a config, of mixed sets at each part, one after the other.

    `quick`: not at the images. Where they are read, a bar on stderr shows progress.
    Raises UserError for settings that do not exist, and where no set can be opened.
    """
    checkups, sets = {}, []
    for name in ("train", "eval"):
        patients = []
        for place, arguments in _parts(f"data.{name}", data_config[name].to_dict()):
            findings = Findings()
            patient = open_patient(arguments, findings)
            if patient is None:
                checkups[place] = Checkup([], 0, {}, {}, findings.listed(), [])
                continue
            class_boxes = _check_classes(patient, findings)
            _check_records(patient, findings, data_config.max_boxes)
            if not quick:
                patient = _look_at_images(patient, findings, place, data_config.num_workers)
            _check_repeated(patient, findings)
            _check_nearly_repeated(patient, findings)
            checkups[place] = Checkup(
                about=patient.about,
                num_images=len(patient.records),
                class_boxes=class_boxes,
                box_sizes=_box_sizes(patient.records),
                findings=findings.listed(),
                suspects=_suspects(patient, findings),
            )
            patients.append(patient)
        sets.append(patients)
    if not any(sets):
        place, checkup = next(iter(checkups.items()))
        raise UserError(f"{place}: {checkup.findings[0].cases[0]}")  # what opening it raised
    between = Findings()
    if len(checkups) == 2 and all(sets):  # of mixed sets, the config says which classes they come to
        _check_class_lists(*sets[0], *sets[1], between)
    _check_overlap(*sets, between)
    return Report(checkups, between.listed())


def _parts(place: str, arguments: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The sources of a config's data.train or data.eval with their places in it: one, or the parts of a mixed one."""
    if arguments.get("source") != "mixed":
        return [(place, arguments)]
    parts = arguments.get("parts", {}).items()
    return [(f"{place}.parts.{name}", {k: v for k, v in part.items() if k != "weight"}) for name, part in parts]


def glance(source: Source, eval_source: Source) -> list[str]:
    """What stands out in the opened sources of a run, without reading images; lines for people.

    Only what neither `Source.report` nor the loaders say.
    """
    train, evaluation = as_patient(source), as_patient(eval_source)
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
    return [*lines, "python -m lga_jax.commands.doctor --config CONFIG names them all"] if lines else []


def _check_classes(patient: Patient, findings: Findings) -> dict[str, int]:
    """Boxes of each class."""
    labels = np.concatenate([np.zeros(0, np.int32), *(record.labels for record in patient.records)])
    labels = labels[~np.concatenate([np.zeros(0, bool), *(record.crowd for record in patient.records)])]
    counts = np.bincount(labels, minlength=len(patient.class_names)).tolist()
    class_boxes = dict(zip(patient.class_names, counts, strict=True))
    if not patient.records:
        return class_boxes
    if not len(labels):
        findings.add("no_boxes", Case(counted(len(patient.records), "image")))
    else:
        for name in (name for name, count in class_boxes.items() if not count):
            findings.add("class_without_boxes", Case(name))
    return class_boxes


def _check_records(patient: Patient, findings: Findings, max_boxes: int | None) -> None:
    for index, record in enumerate(patient.records):
        for row in np.flatnonzero(record.crowd).tolist():
            _add_box(patient, findings, "crowd", index, row)
        num_boxes = int((~record.crowd).sum())
        if num_boxes == 0:
            findings.add("empty", patient.case(index))
        if max_boxes is not None and num_boxes > max_boxes:
            findings.add("overflow", patient.case(index, counted(num_boxes, "box")), index)


def _look_at_images(patient: Patient, findings: Findings, what: str, num_threads: int) -> Patient:
    """Reads every image once. In the patient that is returned, images of the same content have the same identity."""
    number, identities = range(len(patient.records)), []
    workers = ThreadPoolExecutor(num_threads, thread_name_prefix="look")
    try:
        with tqdm(workers.map(patient.look, number), what, len(number), unit="image") as looks:
            for index, look in enumerate(looks):
                for kind, detail in look.faults.items():
                    findings.add(kind, patient.case(index, detail), index)
                identities.append(look.identity or patient.identities[index])
    finally:
        workers.shutdown(cancel_futures=True)
    return patient._replace(identities=identities)


def _check_repeated(patient: Patient, findings: Findings) -> None:
    first: dict[str, int] = {}
    for index, identity in enumerate(patient.identities):
        original = first.setdefault(identity, index)
        if original != index:
            findings.add("repeated_image", patient.case(index, f"the same as {patient.case(original)}"), index)
    for index, row in _repeated_boxes(patient.records):
        _add_box(patient, findings, "repeated_box", index, row)


def _check_nearly_repeated(patient: Patient, findings: Findings) -> None:
    for index, record in enumerate(patient.records):
        for row in _nearly_repeated_boxes(record):
            _add_box(patient, findings, "nearly_repeated_box", index, row)


def _add_box(patient: Patient, findings: Findings, kind: str, index: int, row: int) -> None:
    record = patient.records[index]
    x1, y1, x2, y2 = record.boxes_original[row].tolist()
    bbox = [x1, y1, x2 - x1, y2 - y1]
    findings.add(kind, patient.case(index, patient.class_names[record.labels[row]], bbox=bbox), index)


def _repeated_boxes(records: Sequence[Record]) -> list[tuple[int, int]]:
    """(image, row) of every box that an earlier one of its image equals, class included."""
    num_boxes = np.array([len(record.labels) for record in records], np.int64)
    if not num_boxes.sum():
        return []
    image = np.repeat(np.arange(len(records)), num_boxes)
    labels = np.concatenate([record.labels for record in records])
    boxes = np.concatenate([record.boxes_original for record in records]).astype(np.float32)
    rows = np.column_stack([image, labels, boxes.view(np.uint32)]).astype(np.uint64)
    # Four times as fast as to sort the rows: equal ones come together, and what came there by chance is told apart.
    order = np.argsort(rows @ _HASH, kind="stable")
    before, after = rows[order[:-1]], rows[order[1:]]
    repeated = order[1:][(before == after).all(axis=1)]
    starts = np.cumsum(num_boxes) - num_boxes
    return [(int(image[row]), int(row - starts[image[row]])) for row in np.sort(repeated)]


def _nearly_repeated_boxes(record: Record) -> list[int]:
    """The row of every box that has nearly the place of an earlier one of its class, but not exactly; no crowds."""
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


def _check_class_lists(trained: Patient, evaluated: Patient, findings: Findings) -> None:
    names, others = trained.class_names, evaluated.class_names
    if names and others and names != others:
        for name in sorted(set(names) ^ set(others)) or ["only the order differs"]:
            findings.add("classes_differ", Case(name))


def _check_overlap(trained: list[Patient], evaluated: list[Patient], findings: Findings) -> None:
    known = {identity: patient.case(index) for patient in trained for index, identity in enumerate(patient.identities)}
    for patient in evaluated:
        for index, identity in enumerate(patient.identities):
            if identity in known:
                findings.add("overlap", patient.case(index, f"the same as {known[identity]}"))


def _box_sizes(records: Sequence[Record]) -> dict[str, int]:
    boxes = np.concatenate([np.zeros((0, 4)), *(record.boxes_original[~record.crowd] for record in records)])
    sizes = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    counts = np.histogram(sizes, [0, *_SIZE_EDGES, np.inf])[0].tolist()
    names = [f"{low} to {high}" for low, high in pairwise((0, *_SIZE_EDGES))] + [f"from {_SIZE_EDGES[-1]}"]
    return dict(zip(names, counts, strict=True))


def _suspects(patient: Patient, findings: Findings) -> list[Suspect]:
    """Of each kind of fault some images, in turn: of the gravest kind first, and those first that have most faults."""
    by_faults = sorted(findings.faults.items(), key=lambda item: -item[1].total())
    by_kind = [[index for index, faults in by_faults if finding.kind in faults] for finding in findings.listed()]
    in_turn = dict.fromkeys(chain.from_iterable(zip_longest(*by_kind)))
    return [
        Suspect(
            str(patient.case(index)),
            dict(findings.faults[index]),
            patient.records[index],
            findings.faulty_boxes[index],
            partial(patient.read, index),
        )
        for index in [index for index in in_turn if index is not None][:_NUM_SUSPECTS]
    ]
