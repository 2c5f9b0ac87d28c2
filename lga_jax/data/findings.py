"""What can be wrong with a set, how grave it is and what helps; and the list of what was found."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

SEVERITIES = ("error", "warning", "note")

# kind: severity, what it is, remedy. An error stops training or loses an image; of a note nothing need come.
KINDS = {
    "cannot_open": ("error", "cannot be opened", "correct the config's data section or the file"),
    "no_boxes": ("error", "no box to train on or to score", "name another annotation file or correct its boxes"),
    "unreadable": ("error", "images of which nothing can be decoded: grey, without boxes", "replace or remove them"),
    "refused": ("error", "images at which training stops", "correct them or what is annotated"),
    "size_differs": ("error", "images of another size than annotated", "correct width and height, check the boxes"),
    "classes_differ": ("error", "classes that data.train and data.eval do not share", "give both the same categories"),
    "overlap": ("warning", "images of data.eval that are in data.train too: the score flatters", "split anew"),
    "corners": (
        "warning",
        "boxes that reach out of their image; as [x1, y1, x2, y2] nearly all would fit",
        "convert bbox to [x, y, width, height]",
    ),
    "fractions": ("warning", "boxes of at most one pixel: fractions of the image?", "multiply them by its size"),
    "degenerate": ("warning", "boxes without an area, or not finite: left out", "correct or remove them"),
    "outside": ("warning", "boxes outside their image: left out", "correct them, or the size of the image"),
    "repeated_box": ("warning", "boxes that repeat another of the same class", "remove the copies"),
    "nearly_repeated_box": (
        "warning",
        "boxes with an IoU from 0.9 with another of the same class",
        "remove one of each",
    ),
    "repeated_image": ("warning", "images that repeat another", "remove the copies"),
    "overflow": (
        "warning",
        "images with more boxes than data.max_boxes: the smallest are left out",
        "raise or unset it",
    ),
    "class_without_boxes": ("warning", "classes without a box", "annotate them, or remove them from the categories"),
    "truncated": ("warning", "files that break off: what is missing is grey", "restore them"),
    "sixteen_bit": ("warning", "images of 16 bits: the upper eight are used", "convert those that are dark by that"),
    "exif_unclear": (
        "warning",
        "images that EXIF turns without changing their size: boxes are taken to be on the pixels as stored",
        "look whether they fit; if not, store the images upright",
    ),
    "exif_turned": ("note", "images that EXIF turns: their annotated size tells on which pixels boxes were drawn", ""),
    "cmyk": ("note", "images in CMYK: become RGB without a colour profile", ""),
    "grey": ("note", "grey images: three equal channels", ""),
    "clipped": ("note", "boxes that reach more than a pixel out of their image: clipped for training", ""),
    "crowd": ("note", "crowd boxes: not trained on, ignored by the score", ""),
    "empty": ("note", "images without a box to train on", ""),
}


class Finding(NamedTuple):
    """One kind of thing, and all that have it."""

    kind: str  # a word for programs
    severity: str  # one of SEVERITIES
    text: str  # what it is, for people
    remedy: str  # "" where nothing need be done
    names: list[str]  # of the images, annotations or classes; at least one


class Findings:
    """What is found of one set, as it comes, and which images have faults."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = defaultdict(list)
        self._kinds = dict(KINDS)
        self.faults: dict[int, Counter[str]] = defaultdict(Counter)  # of each image: its errors and warnings by kind
        self.faulty_boxes: dict[int, list[Sequence[float]]] = defaultdict(list)  # of each image: [x, y, width, height]

    def define(self, kind: str, text: str, remedy: str) -> None:
        """A kind of error that KINDS does not have."""
        self._kinds[kind] = ("error", text, remedy)

    def add(self, kind: str, name: str, image: int | None = None, bbox: Sequence[float] | None = None) -> None:
        """Something called `name`; `image`, `bbox`: where it can be seen."""
        self._names[kind].append(name)
        if image is not None and self._kinds[kind][0] != "note":
            self.faults[image][kind] += 1
            if bbox is not None:
                self.faulty_boxes[image].append(bbox)

    def listed(self) -> list[Finding]:
        """The gravest first."""
        found = [Finding(kind, *self._kinds[kind], names) for kind, names in self._names.items()]
        return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def printable(text: str) -> str:
    """What people can be shown of a name from a file: one line without control characters, of a bounded length."""
    shown = repr(text)[1:-1]
    return shown if len(shown) <= 160 else f"{shown[:157]}..."
