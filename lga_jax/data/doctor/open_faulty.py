"""Opens sources for the doctor: faults become findings instead of errors."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from lga_jax.data.annotations import count_unusable, rows_of_images, to_records
from lga_jax.data.coco.box_format import suspicious_layout
from lga_jax.data.coco.faults import Fault, find_faults, is_bbox
from lga_jax.data.coco.ids import unify_ids
from lga_jax.data.coco.image_files import ImageFiles, find_image_files
from lga_jax.data.coco.schema import category_names, read_annotation_file, read_coco, sound_entries
from lga_jax.data.coco.segmentations import read_masks
from lga_jax.data.coco.source import CocoJson, read_columns, read_hw, read_xywh
from lga_jax.data.decode import decode_image, read_header, read_image_file
from lga_jax.data.doctor.findings import Case, Findings
from lga_jax.data.federated import LISTS, report_lists, verified_labels
from lga_jax.data.object_masks import ObjectMask
from lga_jax.data.source import (
    ImageId,
    Record,
    Source,
    UnreadableImageError,
    UnusableBoxes,
    find_source,
    fingerprint_of,
    object_masks_of,
    report_of,
    unusable_boxes_of,
)
from lga_jax.errors import UserError, shown

# The kinds of coco.faults without their section: the problem, and the keys that show it; None: all keys.
_SCHEMA = {
    "no_object": ("other than a JSON object", ()),
    "key_missing": ("without all required keys", None),
    "id_type": ("with an id of the wrong type", ("id",)),
    "id_size": ("with an id of more than 64 bits", ("id",)),
    "id_repeated": ("with a repeated id", ("id",)),
    "name_type": ("with a name other than a string", ("name",)),
    "file_name_type": ("with a file_name other than a string", ("file_name",)),
    "file_name_url": ("with a URL as file_name", ("file_name",)),
    "file_name_absolute": ("with an absolute path as file_name", ("file_name",)),
    "file_name_outside": ("with a file_name outside the image folder", ("file_name",)),
    "file_name_ambiguous": ("with a file_name that fits no file exactly and not one alone", ("file_name",)),
    "file_missing": ("without a file", ()),
    "lists_missing": ("without one of LVIS's lists, which other images have", ()),
    "lists_unknown": ("with other entries than ids of categories in LVIS's lists", LISTS),
    "size": ("without a height and width in whole pixels", ("height", "width")),
    "too_large": ("with too many pixels", ("height", "width")),
    "category_id_unknown": ("with an unknown category_id", ("category_id",)),
    "image_id_unknown": ("with an unknown image_id", ("image_id",)),
    "bbox": ("with a bbox other than four numbers", ("bbox",)),
    "iscrowd": ("with an iscrowd other than 0 or 1", ("iscrowd",)),
    "area": ("with an area other than a number", ("area",)),
}
_NOUNS = {"images": "image", "categories": "category", "annotations": "annotation"}


class ImageCheck(NamedTuple):
    """The content of one image file."""

    identity: str  # equal for equal content; "" for unreadable files
    faults: dict[str, str]  # kind of finding -> additional information, or ""


class OpenedSource(NamedTuple):
    """An opened source; it has a record for each image with a valid entry in the annotations."""

    about: list[str]  # report lines
    class_names: tuple[str, ...]
    records: Sequence[Record]
    file_names: Sequence[str | None]
    identities: list[str]  # equal for equal images, also of different sources
    unusable_boxes: list[UnusableBoxes]
    masks: Sequence[Sequence[ObjectMask | str]]  # of each box of each record, or its fault; () if they are not read
    check: Callable[[int], ImageCheck]
    read: Callable[[int], UInt8[np.ndarray, "h w 3"]]  # raises UserError

    def case(self, index: int, detail: str = "", **more: Any) -> Case:
        """A case about an image, or about a box in it."""
        return Case(detail, self.file_names[index], self.records[index].image_id, **more)


def open_faulty(arguments: Mapping[str, Any], findings: Findings, object_masks: bool = False) -> OpenedSource | None:
    """Opens the source of data.train or data.eval; None if that is impossible.

    Faults of the data are added to `findings`. object_masks: read the masks too.
    """
    settings = {key: value for key, value in arguments.items() if key != "source"}
    constructor = find_source(arguments["source"])
    try:
        if constructor is CocoJson:
            return _open_coco(findings, object_masks, **settings)
        return from_source(constructor(**settings), object_masks)
    except UserError as error:
        findings.add("cannot_open", Case(str(error)))
        return None


def from_source(source: Source, object_masks: bool = False) -> OpenedSource:
    """Wraps a source that is already open. object_masks: read the masks too."""
    if isinstance(source, CocoJson):
        identities, file_names = source.paths, source.file_names
    else:
        fingerprint = fingerprint_of(source)
        identities = [f"{fingerprint} {index}" for index in range(len(source.records))]
        file_names = [None] * len(source.records)
    return OpenedSource(
        about=report_of(source),
        class_names=source.class_names,
        records=source.records,
        file_names=file_names,
        identities=identities,
        unusable_boxes=unusable_boxes_of(source),
        masks=_masks(source) if object_masks else (),
        check=partial(_check_pixels, source),
        read=source.image,
    )


def _masks(source: Source) -> list[list[ObjectMask | str]]:
    every = (object_masks_of(source, index) for index in range(len(source.records)))
    return [["mask_missing" if mask is None else mask for mask in masks] for masks in every]


def _open_coco(
    findings: Findings, object_masks: bool, root: str, annotations: str, images: str, skip_empty: bool
) -> OpenedSource:
    path, folder = (Path(root, place).expanduser() for place in (annotations, images))
    data = read_annotation_file(path)
    content = read_coco(data, str(path))
    for note in unify_ids(content):
        findings.add("ids_converted", Case(note))
    faults = list(find_faults(content))
    sound = sound_entries(content, faults)
    written = {position: image["file_name"] for position, image in sound["images"].items()}
    if os.path.isdir(folder):
        files = find_image_files(folder, written)
        absent = {position for fault in files.faults for position in fault.positions}
    else:
        findings.add("no_folder", Case(str(folder)))
        files, absent = ImageFiles(written, {}, []), set(written)
    _add_faults(findings, [*faults, *files.faults], content, sound["images"])
    for position, changes in files.changes.items():
        detail = f"{shown(written[position])} ({', '.join(changes)})"
        findings.add("file_renamed", Case(detail, files.paths[position], sound["images"][position]["id"]))
    records, unusable, masks = _records(findings, sound, str(path), data if object_masks else None)
    there = [position not in absent for position in written]
    paths = [os.path.join(os.path.abspath(folder), name) for name in files.paths.values()]

    def check(index: int) -> ImageCheck:
        return _check_file(paths[index], records[index]) if there[index] else ImageCheck("", {})

    def read(index: int) -> UInt8[np.ndarray, "h w 3"]:
        if not there[index]:
            raise UserError(
                str(paths[index]),
                expected="an image file",
                found="none",
                remedy="add it",
            )
        hw = records[index].height, records[index].width
        return decode_image(read_image_file(paths[index]), paths[index], hw).image

    categories = {"categories": sound["categories"].values()}
    verified = [record.verified for record in records if record.verified is not None]
    about = [
        f"{path}: {len(content['images'])} images, {len(content['annotations'])} annotations",
        *report_lists(categories, verified or None),
    ]
    class_names = category_names(categories).values()
    names = list(files.paths.values())
    return OpenedSource(about, tuple(class_names), records, names, paths, unusable, masks, check, read)


def _add_faults(findings: Findings, faults: Iterable[Fault], content: Mapping, images: Mapping[int, dict]) -> None:
    index_of = {image["id"]: index for index, image in enumerate(images.values())}
    file_names = {image["id"]: image["file_name"] for image in images.values()}
    for fault in faults:
        text, keys = _SCHEMA.get(fault.kind.split(".")[-1], (f"with another value than {fault.expected}", ()))
        findings.define(fault.kind, _NOUNS[fault.section], text, fault.remedy)
        for position in fault.positions:
            entry = content[fault.section][position]
            if fault.section == "annotations" and isinstance(entry, dict):
                case = _annotation_case(position, entry, keys, file_names)
                findings.add(fault.kind, case, index_of.get(case.image_id))
            else:
                findings.add(fault.kind, _entry_case(f"{fault.section}[{position}]", entry, keys))


def _annotation_case(
    position: int, entry: Mapping[str, Any], keys: Collection[str] | None, file_names: Mapping[ImageId, str]
) -> Case:
    image_id, bbox = _image_id(entry.get("image_id")), entry.get("bbox")
    bbox = bbox if is_bbox(bbox) else None
    return Case(_shown_keys(entry, keys), file_names.get(image_id), image_id, position, bbox)


def _entry_case(place: str, entry: object, keys: Collection[str] | None) -> Case:
    """A case about an image or a category of the annotation file, or an entry that is not an object."""
    if not isinstance(entry, dict):
        return Case(f"{place}: {shown(entry)}")
    if place.startswith("categories"):
        return Case(f"{place}: {_shown_keys(entry, None)}")
    file_name = entry.get("file_name")
    detail = ", ".join(filter(None, [place, _shown_keys(entry, keys)]))
    return Case(detail, file_name if isinstance(file_name, str) else None, _image_id(entry.get("id")))


def _image_id(value: object) -> ImageId | None:
    return value if type(value) in (int, str) else None


def _shown_keys(entry: Mapping[str, Any], keys: Collection[str] | None) -> str:
    return ", ".join(f"{key} {shown(entry[key])}" for key in (entry if keys is None else keys) if key in entry)


def _records(
    findings: Findings, sound: Mapping[str, Mapping[int, dict]], where: str, data: bytes | None
) -> tuple[list[Record], list[UnusableBoxes], list[list[ObjectMask | str]]]:
    """The records and unusable boxes of CocoJson for these entries, and the masks in the file's `data`.

    Boxes that it leaves out or changes are added to `findings`.
    """
    truth = {section: list(entries.values()) for section, entries in sound.items()}
    if not truth["images"]:
        return [], [], []
    columns, hw = read_columns(truth, category_names(truth)), read_hw(truth)
    xywh = read_xywh(truth)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = np.abs(columns.boxes - np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))
    layout = suspicious_layout(xywh, hw[columns.image][:, ::-1])
    noted = {"degenerate": columns.degenerate, "outside": columns.outside, **layout}
    if not layout:
        noted["clipped"] = columns.usable & (moved > 1).any(axis=1)
    positions = list(sound["annotations"])
    for kind, has in noted.items():
        for row in np.flatnonzero(has).tolist():
            index = int(columns.image[row])
            image = truth["images"][index]
            case = Case("", image["file_name"], image["id"], positions[row], xywh[row].tolist())
            findings.add(kind, case, index)
    unusable = count_unusable(columns, where, [image["file_name"] for image in truth["images"]])
    masks = [] if data is None else read_masks(data, positions, columns, hw)
    by_image = [[masks[row] for row in rows.tolist()] for rows in rows_of_images(columns, len(hw))] if masks else []
    verified = verified_labels(truth, category_names(truth))
    return to_records([image["id"] for image in truth["images"]], hw, columns, verified), [unusable], by_image


def _check_file(path: str, record: Record) -> ImageCheck:
    identity, faults, annotated = "", {}, (record.height, record.width)
    try:
        data = read_image_file(path)
        identity = hashlib.sha256(data).hexdigest()
        header = read_header(data, path)
        image, truncated, values = decode_image(data, path, annotated)
    except UnreadableImageError as error:
        return ImageCheck("", {"unreadable": error.found})  # unreadable files are not duplicates
    except UserError as error:
        return ImageCheck(identity, {"refused": str(error).removeprefix(f"{path}: ")})
    if image.shape[:2] != annotated:
        found, expected = (f"{width} x {height}" for height, width in (image.shape[:2], annotated))
        faults["size_differs"] = f"{found}, annotated {expected}"
    if values:
        faults["deep"] = values
    marks = {
        "exif_turned": header.upright_hw != header.stored_hw,
        "exif_unclear": header.orientation in range(2, 9) and header.upright_hw == header.stored_hw,
        "truncated": truncated,
        "cmyk": header.mode == "CMYK",
        "grey": header.mode in ("1", "L", "LA"),
    }
    return ImageCheck(identity, faults | {kind: "" for kind, has in marks.items() if has})


def _check_pixels(source: Source, index: int) -> ImageCheck:
    try:
        image = source.image(index)
    except UnreadableImageError as error:
        return ImageCheck("", {"unreadable": str(error)})
    except UserError as error:
        return ImageCheck("", {"refused": str(error)})
    return ImageCheck(hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest(), {})
