"""What can be wrong with a set, how grave it is and what helps; and the list of what was found."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from lga_jax.data.coco.box_format import BOX_FORMATS
from lga_jax.data.source import ImageId
from lga_jax.errors import counted

SEVERITIES = ("error", "warning", "note")

# kind: severity, of what, what is wrong, remedy. An error stops training or loses an image; a note asks for nothing.
KINDS = {
    "cannot_open": ("error", "set", "that cannot be opened", "correct the config's data section or the file"),
    "no_folder": ("error", "folder", "of images that is not there", "correct `images` in the config's data section"),
    "no_boxes": (
        "error",
        "set",
        "without a box to train on or to score",
        "name another annotation file or correct its boxes",
    ),
    "unreadable": (
        "error",
        "image",
        "of which nothing can be decoded: grey, without boxes",
        "put sound files in their place, or remove the entries",
    ),
    "refused": ("error", "image", "at which training stops", "replace, or correct the annotations"),
    "size_differs": (
        "error",
        "image",
        "of another size than annotated",
        "correct width and height in the annotations, and check the boxes",
    ),
    "classes_differ": (
        "error",
        "class",
        "that data.train and data.eval do not share",
        "give both the same categories with the same ids",
    ),
    "overlap": ("warning", "image", "of data.eval found in data.train too: the score flatters", "split anew"),
    **{kind: ("warning", "box", *texts) for kind, texts in BOX_FORMATS.items()},
    "degenerate": ("warning", "box", "without an area, or not finite: left out", "correct or remove what is left out"),
    "outside": ("warning", "box", "outside the image: left out", "correct bbox, or the size of the image"),
    "repeated_box": ("warning", "box", "repeating another of the same class", "keep one of each"),
    "nearly_repeated_box": (
        "warning",
        "box",
        "with an IoU from 0.9 with another of the same class",
        "keep one of each",
    ),
    "repeated_image": ("warning", "image", "repeating another", "keep one of each"),
    "overflow": (
        "warning",
        "image",
        "with more boxes than data.max_boxes: the smallest are left out",
        "raise or unset data.max_boxes",
    ),
    "class_without_boxes": (
        "warning",
        "class",
        "without a box",
        "annotate objects, or remove what has none from the categories of both files",
    ),
    "truncated": ("warning", "file", "breaking off: what is missing is grey", "restore from the original"),
    "sixteen_bit": ("warning", "image", "of 16 bits: the upper eight are used", "convert what is dark by that"),
    "exif_unclear": (
        "warning",
        "image",
        "turned by EXIF without a change of size: boxes are taken to be on the pixels as stored",
        "look whether the boxes fit; if not, store upright",
    ),
    "exif_turned": ("note", "image", "turned by EXIF: the annotated size tells on which pixels boxes were drawn", ""),
    "cmyk": ("note", "image", "in CMYK: made RGB without a colour profile", ""),
    "grey": ("note", "image", "in grey: three equal channels", ""),
    "clipped": ("note", "box", "reaching more than a pixel out of the image: clipped for training", ""),
    "crowd": ("note", "box", "around a crowd: not trained on, ignored by the score", ""),
    "empty": ("note", "image", "without a box to train on", ""),
}


class Case(NamedTuple):
    """One thing that is at fault. None is what is not known, or does not apply."""

    detail: str = ""  # what more is known; of a class its name
    file_name: str | None = None  # of the image
    image_id: ImageId | None = None
    annotation_index: int | None = None  # place in the annotation file's list, from 0
    bbox: Sequence[float] | None = None  # [x, y, width, height] in pixels; may be of no use

    def __str__(self) -> str:
        where = self.file_name
        if self.annotation_index is not None:
            where = f"annotations[{self.annotation_index}]{f' of {where}' if where else ''}"
        elif not where and self.image_id is not None:
            where = f"image {self.image_id}"
        bbox = ", ".join(f"{length:g}" for length in self.bbox or ())
        return ": ".join(filter(None, [where, " at ".join(filter(None, [self.detail, bbox]))]))


class Finding(NamedTuple):
    """One kind of fault, and all that have it."""

    kind: str  # a word for programs
    severity: str  # one of SEVERITIES
    text: str  # how many of what, and what is wrong with them, for people
    remedy: str  # "" where nothing need be done
    cases: list[Case]  # at least one


class Findings:
    """What is found of one set, as it comes, and which images have faults."""

    def __init__(self) -> None:
        self._cases: dict[str, list[Case]] = defaultdict(list)
        self._kinds = dict(KINDS)
        self.faults: dict[int, Counter[str]] = defaultdict(Counter)  # of each image: its errors and warnings by kind
        self.faulty_boxes: dict[int, list[Sequence[float]]] = defaultdict(list)  # of each image: [x, y, width, height]

    def define(self, kind: str, noun: str, text: str, remedy: str) -> None:
        """A kind of error that KINDS does not have."""
        self._kinds[kind] = ("error", noun, text, remedy)

    def add(self, kind: str, case: Case, image: int | None = None) -> None:
        """`image`: number of the record where it can be seen."""
        self._cases[kind].append(case)
        if image is not None and self._kinds[kind][0] != "note":
            self.faults[image][kind] += 1
            if case.bbox is not None:
                self.faulty_boxes[image].append(case.bbox)

    def listed(self) -> list[Finding]:
        """The gravest first."""
        found = [self._finding(kind, cases) for kind, cases in self._cases.items()]
        return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))

    def _finding(self, kind: str, cases: list[Case]) -> Finding:
        severity, noun, text, remedy = self._kinds[kind]
        return Finding(kind, severity, f"{counted(len(cases), noun)} {text}", remedy, cases)
