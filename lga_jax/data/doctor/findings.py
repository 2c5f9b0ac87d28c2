"""All kinds of findings with severity and remedy, and the findings of one data set."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from lga_jax.data.coco.box_format import BOX_FORMATS
from lga_jax.data.object_masks import MASK_FAULTS
from lga_jax.data.source import ImageId
from lga_jax.errors import counted

SEVERITIES = ("error", "warning", "note")

# kind: severity, noun, problem, remedy. An error stops training or loses an image; a note needs no action.
KINDS = {
    "cannot_open": ("error", "set", "that cannot be opened", "correct the data section of the recipe, or the file"),
    "no_folder": ("error", "folder", "of images missing", "correct `images` in the recipe"),
    "no_boxes": (
        "error",
        "set",
        "without a box to train on or to score",
        "name another annotation file or correct its boxes",
    ),
    "many_unusable": (
        "error",
        "set",
        "with too many boxes without an area or outside their image: training refuses it",
        "write bbox as [x, y, width, height] in pixels of the image as stored (data.max_faulty is the limit)",
    ),
    "unreadable": (
        "error",
        "image",
        "that cannot be decoded: replaced by grey without boxes",
        "replace the files, or remove the entries",
    ),
    "refused": ("error", "image", "at which training stops", "replace the file, or correct the annotations"),
    "size_differs": (
        "error",
        "image",
        "with another size than annotated",
        "correct the annotated width and height, and check the boxes",
    ),
    "classes_differ": (
        "error",
        "class",
        "missing in data.train or data.eval",
        "give both the same categories with the same ids",
    ),
    "overlap": ("warning", "image", "of data.eval also in data.train: the score is too high", "split the data again"),
    **{kind: ("warning", "box", *texts) for kind, texts in BOX_FORMATS.items()},
    "degenerate": ("warning", "box", "without an area, or with nan or infinity: left out", "correct or remove them"),
    "outside": ("warning", "box", "outside the image: left out", "correct bbox, or the size of the image"),
    "no_masks": (
        "error",
        "set",
        "without an object mask, which model.mask_head needs",
        "name annotations with `segmentation`, or train without a mask head",
    ),
    **{
        kind: ("warning", "box", f"{text}: left out of the mask loss", "correct the segmentation")
        for kind, text in MASK_FAULTS.items()
    },
    "repeated_box": ("warning", "box", "equal to another of the same class", "keep one of each"),
    "nearly_repeated_box": (
        "warning",
        "box",
        "with an IoU from 0.9 with another of the same class",
        "keep one of each",
    ),
    "repeated_image": ("warning", "image", "equal to another", "keep one of each"),
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
        "annotate objects, or remove the category from both files; one for the whole set, as of Roboflow, does no harm",
    ),
    "truncated": ("warning", "file", "truncated: missing pixels are grey", "restore the original file"),
    "deep": (
        "warning",
        "image",
        "with more than 8 bits per channel: converted to 8 bits",
        "look at them in the preview; convert images that are too dark or too bright",
    ),
    "exif_unclear": (
        "warning",
        "image",
        "turned by EXIF without a change of size: boxes are assumed to match the stored pixels",
        "check the boxes in the preview; if they do not fit, store the images upright",
    ),
    "ids_converted": ("note", "list", "of ids with numbers of another type: converted", ""),
    "file_renamed": ("note", "image", "with a file_name that differs from the name of its file: matched", ""),
    "exif_turned": ("note", "image", "turned by EXIF: the annotated size decides whether the turn is applied", ""),
    "cmyk": ("note", "image", "in CMYK: converted to RGB without a colour profile", ""),
    "grey": ("note", "image", "in grey: converted to three equal channels", ""),
    "mask_crosses": ("note", "box", "with a polygon that crosses itself: filled as COCO fills it", ""),
    "clipped": ("note", "box", "more than a pixel outside the image: clipped for training", ""),
    "crowd": ("note", "box", "around a crowd: not trained on, ignored by the score", ""),
    "empty": ("note", "image", "without a box to train on", ""),
}


class Case(NamedTuple):
    """One case of a finding. None: unknown or not applicable."""

    detail: str = ""  # additional information; for a class its name
    file_name: str | None = None  # name of the image file
    image_id: ImageId | None = None
    annotation_index: int | None = None  # position in the annotation file's list, from 0
    bbox: Sequence[float] | None = None  # [x, y, width, height] in pixels; may be unusable

    def __str__(self) -> str:
        where = self.file_name
        if self.annotation_index is not None:
            where = f"annotations[{self.annotation_index}]{f' of {where}' if where else ''}"
        elif not where and self.image_id is not None:
            where = f"image {self.image_id}"
        bbox = ", ".join(f"{length:g}" for length in self.bbox or ())
        return ": ".join(filter(None, [where, " at ".join(filter(None, [self.detail, bbox]))]))


class Finding(NamedTuple):
    """One kind of finding with all its cases."""

    kind: str  # a name for programs
    severity: str  # one of SEVERITIES
    text: str  # count, noun and problem
    remedy: str  # "" if no action is needed
    cases: list[Case]  # at least one


class Findings:
    """Collects the findings of one data set and the faults of each image."""

    def __init__(self) -> None:
        self._cases: dict[str, list[Case]] = defaultdict(list)
        self._kinds = dict(KINDS)
        self.faults: dict[int, Counter[str]] = defaultdict(Counter)  # image -> its errors and warnings by kind
        self.faulty_boxes: dict[int, list[Sequence[float]]] = defaultdict(list)  # image -> [x, y, width, height]

    def define(self, kind: str, noun: str, text: str, remedy: str) -> None:
        """Adds a kind of error to those of KINDS."""
        self._kinds[kind] = ("error", noun, text, remedy)

    def add(self, kind: str, case: Case, image: int | None = None) -> None:
        """Adds a case. `image`: index of the record that shows it."""
        self._cases[kind].append(case)
        if image is not None and self._kinds[kind][0] != "note":
            self.faults[image][kind] += 1
            if case.bbox is not None:
                self.faulty_boxes[image].append(case.bbox)

    def listed(self) -> list[Finding]:
        """All findings, errors first."""
        found = [self._finding(kind, cases) for kind, cases in self._cases.items()]
        return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))

    def _finding(self, kind: str, cases: list[Case]) -> Finding:
        severity, noun, text, remedy = self._kinds[kind]
        return Finding(kind, severity, f"{counted(len(cases), noun)} {text}", remedy, cases)
