"""Reads Pascal VOC's XML annotations: one file per image.

Annotations/a.xml  JPEGImages/a.jpg  ImageSets/Main/train.txt     VOC's own layout
train/a.xml  train/a.jpg  valid/...                               Roboflow's layout
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from lga_jax.data.convert.content import (
    IMAGE_SUFFIXES,
    AnnotatedImage,
    Box,
    Converted,
    count_line,
    images_in,
    read_text,
    to_content,
)
from lga_jax.data.decode import read_image_file, stored_hw
from lga_jax.errors import UserError, counted, listed, shown

Pixels = Literal["voc", "edges"]
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocFolder(NamedTuple):
    """The annotations of a data set, of all splits."""

    root: Path
    pixels: Pixels  # "voc": pixels count from 1, the last one is included; "edges": coordinates of the box's edges
    class_names: list[str]  # in alphabetical order

    def split(self, name: str) -> Converted:
        """The images and boxes of a split. Raises UserError for the first fault.

        Objects that are marked as difficult become crowds: not trained on, ignored by the score.
        """
        folder, xml_files, num_without = _find_split(self.root, name)
        labels = {class_name: label for label, class_name in enumerate(self.class_names)}
        listing = {path.name: path for path in images_in(folder)}
        images = [_read(path, listing, labels, self.pixels) for path in xml_files]
        notes = [count_line(name, images, self.class_names)]
        if num_crowds := sum(box.crowd for image in images for box in image.boxes):
            notes.append(f"{counted(num_crowds, 'difficult object')} marked as crowds")
        if self.pixels == "voc" and (num_edges := sum(_are_edges(box.bbox) for image in images for box in image.boxes)):
            reason = "start at 0 or have fractions, so their numbers are edges; convert again with --pixels edges"
            notes.append(f"WARNING: {counted(num_edges, 'box')} {reason}")
        if num_without:
            notes.append(f"{counted(num_without, 'image')} without an XML file: left out")
        return Converted(folder, to_content(images, folder, self.class_names), notes)


def open_voc(root: Path, pixels: Pixels) -> VocFolder:
    """Finds the classes of all XML files below `root`, so that all splits have the same classes."""
    xml_files = sorted(root.rglob("*.xml"))
    if not xml_files:
        raise UserError(str(root), expected="a folder with XML files", found="none", remedy="correct the path")
    names = {_text(obj, "name", path) for path in xml_files for obj in _parse(path).iter("object")}
    return VocFolder(root, pixels, sorted(names))


def _find_split(root: Path, name: str) -> tuple[Path, list[Path], int]:
    """The image folder, the XML files, and the number of images without one."""
    list_file, inside = root / "ImageSets" / "Main" / f"{name}.txt", root / name
    if list_file.is_file():
        stems = [line.split()[0] for line in read_text(list_file).splitlines() if line.strip()]
        found = [root / "Annotations" / f"{stem}.xml" for stem in stems]
        missing = [path.name for path in found if not path.is_file()]
        if missing or not found:
            raise UserError(
                str(list_file),
                expected="names of annotated images",
                found=f"{len(missing)} of {len(found)} without an XML file: {listed(missing, 3)}",
                remedy="correct the list",
            )
        return root / "JPEGImages", found, 0
    if inside.is_dir():
        found = sorted(inside.rglob("*.xml"))
        stems = {path.stem for path in found}
        return inside, found, sum(path.stem not in stems for path in images_in(inside))
    raise UserError(
        f"--split {name}",
        expected=f"ImageSets/Main/{name}.txt or a folder {name} in {root}",
        found="neither",
        remedy="name the splits with --split",
    )


def _read(path: Path, listing: dict[str, Path], labels: dict[str, int], pixels: Pixels) -> AnnotatedImage:
    tree = _parse(path)
    names = [tree.findtext("filename") or "", *(path.stem + suffix for suffix in _suffixes())]
    image = next((listing[name] for name in names if name in listing), None)
    if image is None:
        raise UserError(
            str(path), expected="an image beside it", found=f"no file {shown(names[0])}", remedy="add the image"
        )
    boxes = [
        Box(
            labels[_text(obj, "name", path)], _bbox(obj, path, pixels), (obj.findtext("difficult") or "").strip() == "1"
        )
        for obj in tree.iter("object")
    ]
    return AnnotatedImage(image, _hw(tree, image), boxes)


def _suffixes() -> Iterator[str]:
    for suffix in IMAGE_SUFFIXES:
        yield from (suffix, suffix.upper())


def _hw(tree: Element, image: Path) -> tuple[int, int]:
    """Height and width in the XML; those of the stored image if the XML has none."""
    try:
        height, width = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except (ValueError, OverflowError):
        height = width = 0
    return (height, width) if min(height, width) > 0 else stored_hw(read_image_file(image), str(image))


def _bbox(obj: Element, path: Path, pixels: Pixels) -> tuple[float, float, float, float]:
    texts = [obj.findtext(f"bndbox/{corner}") or "" for corner in _CORNERS]
    try:
        x1, y1, x2, y2 = (float(text) for text in texts)
    except ValueError:
        x1 = y1 = x2 = y2 = math.nan
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise UserError(
            f"{path}: bndbox",
            expected=f"numbers {', '.join(_CORNERS)}",
            found=shown(texts),
            remedy="correct it",
        )
    if pixels == "voc":
        return x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1
    return x1, y1, x2 - x1, y2 - y1


def _are_edges(bbox: tuple[float, float, float, float]) -> bool:
    """Whether a box, read as VOC's, cannot be VOC's: its pixels are whole numbers from 1."""
    return min(bbox[:2]) < 0 or any(value % 1 for value in bbox)


def _text(obj: Element, key: str, path: Path) -> str:
    text = (obj.findtext(key) or "").strip()
    if not text:
        raise UserError(f"{path}: object", expected=f"a {key}", found="none", remedy="add it")
    return text


def _parse(path: Path) -> Element:
    try:
        return fromstring(path.read_bytes())
    except OSError as error:
        raise UserError(
            str(path), expected="a readable file", found=str(error.strerror), remedy="make it readable"
        ) from error
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise UserError(
            str(path), expected="XML of Pascal VOC", found=shown(str(error)), remedy="export it again"
        ) from error
