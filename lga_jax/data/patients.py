"""Sources opened for the doctor: as far as they can be, with whatever is wrong noted instead of refused."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from lga_jax.data.coco_json import CocoJson, read_columns, read_hw
from lga_jax.data.coco_schema import (
    Fault,
    category_names,
    find_faults,
    find_missing_files,
    is_bbox,
    read_coco,
    sound_entries,
)
from lga_jax.data.columns import to_records
from lga_jax.data.findings import Findings
from lga_jax.data.images import decode_image, read_header
from lga_jax.data.records import Record, Source, UnreadableImageError, find_source
from lga_jax.errors import UserError

_NEARLY_ALL, _MANY = 0.95, 0.1  # of the boxes of a set: what corners taken for [x, y, width, height] come to


class Look(NamedTuple):
    """What was seen of an image's content."""

    identity: str  # equal for equal content; "" where there is none
    faults: dict[str, str]  # kind of finding: what more is known, or ""


class Patient(NamedTuple):
    """A source as far as it can be opened; an entry for each image that has a usable one in the annotations."""

    about: list[str]  # lines for people
    class_names: tuple[str, ...]
    records: Sequence[Record]
    names: Sequence[str]
    identities: list[str]  # equal for images that are the same, in whichever source
    look: Callable[[int], Look]
    read: Callable[[int], UInt8[np.ndarray, "h w 3"]]  # raises UserError or OSError


def open_patient(arguments: Mapping[str, Any], findings: Findings) -> Patient:
    """The source of a config's data.train or data.eval. What is wrong with its annotations goes to `findings`."""
    try:
        settings = {key: value for key, value in arguments.items() if key != "source"}
        constructor = find_source(arguments.get("source", ""), **settings)
        return _open_coco(findings, **settings) if constructor is CocoJson else as_patient(constructor(**settings))
    except UserError as error:
        findings.add("cannot_open", str(error))
        return Patient([], (), [], [], [], lambda index: Look("", {}), lambda index: np.zeros((1, 1, 3), np.uint8))


def as_patient(source: Source) -> Patient:
    """A source that is open already."""
    if isinstance(source, CocoJson):
        identities = names = source.paths
    else:
        identities = [f"{source.fingerprint} {index}" for index in range(len(source.records))]
        names = [str(record.image_id) for record in source.records]
    look = partial(_look_at_pixels, source)
    return Patient(source.report, source.class_names, source.records, names, identities, look, source.image)


def _open_coco(findings: Findings, root: str, annotations: str, images: str, skip_empty: bool) -> Patient:
    path, folder = Path(root, annotations), Path(root, images)
    try:
        content = read_coco(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(
            f"annotation file {path}: expected to read it, found: {error.strerror}; name another"
        ) from error
    faults = list(find_faults(content))
    sound = sound_entries(content, faults)
    names = {position: image["file_name"] for position, image in sound["images"].items()}
    missing = list(find_missing_files(folder, names))
    _add_faults(findings, [*faults, *missing], content, sound["images"])
    records = _records(findings, sound)
    absent = {position for fault in missing for position in fault.positions}
    there = [position not in absent for position in names]
    paths = [os.path.join(os.path.abspath(folder), name) for name in names.values()]

    def look(index: int) -> Look:
        return _look_at_file(paths[index], records[index]) if there[index] else Look("", {})

    def read(index: int) -> UInt8[np.ndarray, "h w 3"]:
        return decode_image(_read_file(paths[index]), paths[index], (records[index].height, records[index].width)).image

    about = [f"{path}: {len(content['images'])} images, {len(content['annotations'])} annotations"]
    class_names = category_names({"categories": sound["categories"].values()}).values()
    return Patient(about, tuple(class_names), records, list(names.values()), paths, look, read)


def _add_faults(findings: Findings, faults: Iterable[Fault], content: Mapping, images: Mapping[int, dict]) -> None:
    index_of = {image["id"]: index for index, image in enumerate(images.values())}
    file_names = [image["file_name"] for image in images.values()]
    for fault in faults:
        findings.define(fault.kind, f"{fault.section} at fault: {fault.text}", fault.remedy)
        for position in fault.positions:
            entry, name = content[fault.section][position], f"{fault.section}[{position}]"
            if not isinstance(entry, dict):
                findings.add(fault.kind, name)
            elif fault.section != "annotations":
                findings.add(fault.kind, f"{name}: {entry.get('file_name', entry.get('name', 'no name'))}")
            elif type(entry.get("image_id")) in (int, str) and entry["image_id"] in index_of:
                index, bbox = index_of[entry["image_id"]], entry.get("bbox")
                findings.add(fault.kind, f"{name} of {file_names[index]}", index, bbox if is_bbox(bbox) else None)
            else:
                findings.add(fault.kind, name)


def _records(findings: Findings, sound: Mapping[str, Mapping[int, dict]]) -> list[Record]:
    """The records that CocoJson would make of these entries. Boxes it would leave out or change are noted."""
    truth = {section: list(entries.values()) for section, entries in sound.items()}
    if not truth["images"]:
        return []
    columns, hw = read_columns(truth, category_names(truth)), read_hw(truth)
    xywh = np.array([annotation["bbox"] for annotation in truth["annotations"]], np.float64).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = np.abs(columns.boxes - np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))
    noted = {
        "degenerate": columns.degenerate,
        "outside": columns.outside,
        "clipped": columns.usable & (moved > 1).any(axis=1),
        **_suspicious_layout(xywh, hw[columns.image][:, ::-1]),
    }
    positions = list(sound["annotations"])
    for kind, has in noted.items():
        for row in np.flatnonzero(has).tolist():
            image = int(columns.image[row])
            name = f"annotations[{positions[row]}] of {truth['images'][image]['file_name']}"
            findings.add(kind, name, image, xywh[row].tolist())
    return to_records([image["id"] for image in truth["images"]], hw, columns)


def _suspicious_layout(xywh: Float[np.ndarray, "n 4"], wh: Int[np.ndarray, "n 2"]) -> dict[str, Bool[np.ndarray, "n"]]:
    """Which boxes tell that those of the whole set are not meant as [x, y, width, height] in pixels."""
    if not len(xywh):
        return {}
    start, end = xywh[:, :2], xywh[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        beyond = (start + end > wh + 1).any(axis=1)
        fits_as_corners = ((end > start) & (end <= wh + 1)).all(axis=1)
        small = (np.abs(xywh) <= 1).all(axis=1)
    if small.all():
        return {"fractions": small}
    if fits_as_corners.mean() > _NEARLY_ALL and beyond.mean() > _MANY:
        return {"corners": beyond}
    return {}


def _look_at_file(path: str, record: Record) -> Look:
    try:
        data = _read_file(path)
    except OSError as error:
        return Look("", {"unreadable": f": {error.strerror}"})
    identity, faults, annotated = hashlib.sha256(data).hexdigest(), {}, (record.height, record.width)
    try:
        header = read_header(data, path)
        image, truncated = decode_image(data, path, annotated)
    except UnreadableImageError:
        return Look("", {"unreadable": ""})  # a thousand empty files are no copies of one image
    except UserError as error:
        return Look(identity, {"refused": f": {error}"})
    if image.shape[:2] != annotated:
        found, expected = (f"{width} x {height}" for height, width in (image.shape[:2], annotated))
        faults["size_differs"] = f": {found}, annotated {expected}"
    marks = {
        "exif_turned": header.upright_hw != header.stored_hw,
        "exif_unclear": header.orientation in range(2, 9) and header.upright_hw == header.stored_hw,
        "truncated": truncated,
        "sixteen_bit": header.deep,
        "cmyk": header.mode == "CMYK",
        "grey": header.mode in ("1", "L", "LA"),
    }
    return Look(identity, faults | {kind: "" for kind, has in marks.items() if has})


def _look_at_pixels(source: Source, index: int) -> Look:
    try:
        image = source.image(index)
    except UnreadableImageError as error:
        return Look("", {"unreadable": f": {error}"})
    except UserError as error:
        return Look("", {"refused": f": {error}"})
    return Look(hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest(), {})


def _read_file(path: str) -> bytes:
    # A name in an annotation file can be that of a device, which never ends.
    if not os.path.isfile(path):
        raise OSError(0, "no regular file")
    return Path(path).read_bytes()
