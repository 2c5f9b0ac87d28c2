"""Why the AP is what it is: curves, confusions, kinds of errors, the best threshold and the most costly mistakes.

The matching of detections with objects and most results are those of hotcoco, which gives pycocotools' numbers (a test
compares them). An object is found by a detection of its class with an IoU of at least 0.5; crowds are left out, and in
data with LVIS's lists, detections that these do not count. The IoU is that of boxes, or of object masks; "poor_box"
then means a poor mask.
"""

from typing import Any, NamedTuple

import hotcoco
import numpy as np
from jaxtyping import Bool, Float, Int

from lga_jax.data.federated import has_lists
from lga_jax.evaluation import thresholds
from lga_jax.evaluation.coco import as_datasets, in_order
from lga_jax.evaluation.mistakes import POSITIVE_IOU, Mistake, cost_of_false, cost_of_missed, kind_of

# TIDE's kinds of errors by hotcoco's names.
_TIDE = {
    "Loc": "poor_box",
    "Cls": "wrong_class",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Both": "wrong_class_poor_box",
    "Miss": "missed",
}


class ErrorKind(NamedTuple):
    """All errors of one of TIDE's kinds, over detections of all scores."""

    count: int
    ap50: float  # gain of AP50 without these errors; the gains of several kinds do not add up


class Bin(NamedTuple):
    """The detections with a score in an interval of 0.1."""

    low: float
    count: int
    mean_score: float
    precision: float  # the share of correct ones


class LabelError(NamedTuple):
    """A confident detection that suggests a fault of the annotations."""

    kind: str  # "wrong_label": overlaps an object of another class that is not found; "missing_annotation": no object
    image_id: int | str
    detection: int  # position in the detections
    annotation: int | None  # position of the object in the annotations


class Analysis(NamedTuple):
    """The analysis of an evaluation. Classes are in the order of the ground truth's categories."""

    class_names: tuple[str, ...]
    num_objects: tuple[int, ...]  # of each class, without crowds
    best: thresholds.Best  # for all classes together
    best_of_class: tuple[thresholds.Best, ...]
    sweep: thresholds.Sweep
    ious: Float[np.ndarray, "t"]  # 0.50, 0.55 .. 0.95
    recalls: Float[np.ndarray, "r"]  # 0.00, 0.01 .. 1.00
    precision: Float[np.ndarray, "t r k"]  # COCO's interpolated precision; nan for a class without objects
    ap50: tuple[float, ...]  # of each class
    confusion: Int[
        np.ndarray, "k1 k1"
    ]  # rows: class of the object, columns: of the detection; last: none. best.threshold
    error_kinds: dict[str, ErrorKind]
    bins: tuple[Bin, ...]  # calibration
    calibration_error: float  # mean of |precision - mean score| over the detections (ECE)
    mistakes: tuple[Mistake, ...]  # at best.threshold, most costly first
    label_errors: tuple[LabelError, ...]  # highest score first


class _Shapes(NamedTuple):
    """Detections or annotations as arrays, in their order."""

    labels: Int[np.ndarray, "n"]
    image_ids: list
    shapes: list  # boxes (x, y, width, height), or masks as RLE


def analyse(ground_truth: dict, detections: list[dict], kind: str = "bbox") -> Analysis:
    """Analyses detections; the arguments are as for `coco_metrics`, and are not changed."""
    image_ids = in_order(image["id"] for image in ground_truth["images"])
    datasets = as_datasets(ground_truth, detections, image_ids, kind)
    federated = has_lists(ground_truth)
    evaluation = hotcoco.COCOeval(*map(hotcoco.COCO, datasets), kind, lvis_style=federated)
    evaluation.evaluate()
    evaluation.accumulate()
    label_of = {category["id"]: label for label, category in enumerate(ground_truth["categories"])}
    objects, found = (_shapes(entries, label_of, kind) for entries in (ground_truth["annotations"], detections))
    diagnostics = evaluation.image_diagnostics(iou_thr=POSITIVE_IOU)
    counted = _positions(diagnostics["gt_status"])
    num_objects = np.bincount(objects.labels[counted], minlength=len(label_of))
    scored = _positions(diagnostics["dt_status"])
    correct = _flags(diagnostics["dt_match"], len(detections))
    scores = np.array([detection["score"] for detection in detections], np.float64)
    sweep = thresholds.sweep(scores[scored], correct[scored], found.labels[scored], num_objects)
    best = thresholds.best_overall(sweep)
    order = [list(evaluation.params.cat_ids).index(category_id) for category_id in label_of]
    precision = evaluation.eval["precision"][:, :, order, 0, -1]
    calibration = evaluation.calibration(n_bins=10, iou_threshold=POSITIVE_IOU)
    return Analysis(
        class_names=tuple(category["name"] for category in ground_truth["categories"]),
        num_objects=tuple(num_objects.tolist()),
        best=best,
        best_of_class=tuple(thresholds.best_of_class(sweep, label) for label in range(len(num_objects))),
        sweep=sweep,
        ious=np.array(evaluation.params.iou_thrs),
        recalls=np.array(evaluation.params.rec_thrs),
        precision=np.where(precision < 0, np.nan, precision),
        ap50=tuple(np.where(precision[0].min(0) < 0, np.nan, precision[0].mean(0)).tolist()),
        confusion=_confusion(_of_scored(*datasets, scored, kind) if federated else evaluation, best.threshold, order),
        error_kinds=_error_kinds(evaluation.tide_errors()),
        bins=tuple(
            Bin(bin_["bin_lower"], bin_["count"], bin_["avg_confidence"], bin_["avg_accuracy"])
            for bin_ in calibration["bins"]
        ),
        calibration_error=calibration["ece"],
        mistakes=_mistakes(scores, correct, (scored, counted), diagnostics, found, objects, best.threshold),
        label_errors=tuple(_label_error(error, image_ids) for error in diagnostics["label_errors"]),
    )


def _shapes(entries: list[dict], label_of: dict[int, int], kind: str) -> _Shapes:
    labels = np.array([label_of[entry["category_id"]] for entry in entries], np.int64)
    key = "segmentation" if kind == "segm" else "bbox"
    return _Shapes(labels, [entry["image_id"] for entry in entries], [entry[key] for entry in entries])


def _positions(status: dict[int, Any]) -> Int[np.ndarray, "n"]:
    """Positions of the boxes with these ids."""
    return np.sort(np.fromiter(status, np.int64, len(status))) - 1


def _flags(status: dict[int, Any], count: int) -> Bool[np.ndarray, "n"]:
    flags = np.zeros(count, bool)
    flags[_positions(status)] = True
    return flags


def _of_scored(truth: dict, found: dict, scored: Int[np.ndarray, "n"], kind: str) -> hotcoco.COCOeval:
    """The evaluation of the detections that count: hotcoco's confusions ignore LVIS's lists."""
    found = {**found, "annotations": [found["annotations"][position] for position in scored.tolist()]}
    evaluation = hotcoco.COCOeval(hotcoco.COCO(truth), hotcoco.COCO(found), kind)
    evaluation.evaluate()
    return evaluation


def _confusion(evaluation: hotcoco.COCOeval, threshold: float, order: list[int]) -> Int[np.ndarray, "k1 k1"]:
    found = evaluation.confusion_matrix(iou_thr=POSITIVE_IOU, min_score=None if np.isnan(threshold) else threshold)
    chosen = [*order, len(order)]
    return found["matrix"][np.ix_(chosen, chosen)].astype(np.int64)


def _error_kinds(errors: dict) -> dict[str, ErrorKind]:
    kinds = {name: ErrorKind(errors["counts"][key], errors["delta_ap"][key]) for key, name in _TIDE.items()}
    return dict(sorted(kinds.items(), key=lambda entry: -entry[1].ap50))


def _mistakes(
    scores: Float[np.ndarray, "d"],
    correct: Bool[np.ndarray, "d"],
    counted: tuple[Int[np.ndarray, "n"], Int[np.ndarray, "m"]],
    diagnostics: dict,
    found: _Shapes,
    objects: _Shapes,
    threshold: float,
) -> tuple[Mistake, ...]:
    """False detections with at least the threshold, and objects without such a detection; most costly first.

    `counted`: positions of the detections and of the objects that count, which are not crowds.
    """
    scored, real = counted
    finder = {gt_id - 1: dt_id - 1 for gt_id, dt_id in diagnostics["gt_match"].items()}
    near = _by_image(objects, real)
    num_classes = max(1, len(set(objects.labels[real].tolist())))
    mistakes = []
    for label in sorted({*objects.labels[real].tolist()}):
        mine = scored[found.labels[scored] == label]
        ranked = mine[np.argsort(-scores[mine], kind="stable")]
        hits, wanted = correct[ranked], real[objects.labels[real] == label]
        num_kept = int(np.sum(scores[ranked] >= threshold)) if np.isfinite(threshold) else 0
        false, missed = cost_of_false(hits, len(wanted)), cost_of_missed(hits, len(wanted), num_kept)
        for place in np.flatnonzero(~hits[:num_kept]).tolist():
            detection = int(ranked[place])
            positions = near.get(found.image_ids[detection], [])
            shapes = [objects.shapes[position] for position in positions]
            kind, overlapped = kind_of(found.shapes[detection], label, shapes, objects.labels[positions])
            annotation = None if overlapped is None else positions[overlapped]
            mistakes.append(Mistake(kind, false[place], found.image_ids[detection], detection, annotation))
        rank = {detection: place for place, detection in enumerate(ranked.tolist())}
        for annotation in wanted.tolist():
            place = rank.get(finder.get(annotation), len(ranked))
            if place >= num_kept:
                at = finder.get(annotation)
                mistakes.append(Mistake("missed", missed[place], objects.image_ids[annotation], at, annotation))
    scaled = [mistake._replace(cost=float(mistake.cost) / num_classes) for mistake in mistakes]
    return tuple(sorted(scaled, key=lambda mistake: -mistake.cost))


def _by_image(objects: _Shapes, positions: Int[np.ndarray, "n"]) -> dict[int | str, list[int]]:
    near: dict[int | str, list[int]] = {}
    for position in positions.tolist():
        near.setdefault(objects.image_ids[position], []).append(position)
    return near


def _label_error(error: dict, image_ids: list) -> LabelError:
    annotation = None if error["gt_id"] is None else error["gt_id"] - 1
    return LabelError(error["type"], image_ids[error["image_id"]], error["dt_id"] - 1, annotation)
