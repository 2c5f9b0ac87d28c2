"""Prediction with a trained detector."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, UInt8
from ml_collections import ConfigDict
from pycocotools import mask as coco_masks

from lga_jax.checkpoints.manifest import OWN_DETECTOR, check_classes, check_model, recipe_of
from lga_jax.checkpoints.read import Saved, restore_params
from lga_jax.data.batches.loader import EvalLoader
from lga_jax.data.source import Source
from lga_jax.drawing.pictures import draw_detections
from lga_jax.errors import UserError, counted, listed, printable
from lga_jax.inference.best_threshold import AUTO, read_best_threshold
from lga_jax.inference.coco_results import count_non_finite, per_image
from lga_jax.inference.compilation import compile_ahead, keep_compiled
from lga_jax.inference.exported import ExportedStep, read_exported
from lga_jax.inference.images import GivenImages, ImageInput, as_rgb
from lga_jax.inference.locate import Located, locate, without_filling
from lga_jax.inference.step import PredictStep, lower_predictions, make_predict_step, replicate
from lga_jax.inference.views import Views, check_views, locate_views
from lga_jax.models.build import build_detector
from lga_jax.models.detector import Detector
from lga_jax.recipe import as_recipe, check

_LOG = logging.getLogger(__name__)


class Detection(NamedTuple):
    """One detected object. All lengths are pixels of the input image."""

    name: str  # name of the class
    score: float  # from 0 to 1
    box: tuple[float, float, float, float]  # (x1, y1, x2, y2)
    label: int  # position in Predictor.class_names
    category_id: int  # id of the class in the training data
    mask_centres: tuple[tuple[float, float], ...]  # (x, y) of each Gaussian mask; () for a model without masks
    mask_sigmas: tuple[tuple[float, float], ...]  # (x, y)
    segmentation: dict[str, Any] | None = None  # COCO's compressed RLE of the object; None without a mask head

    @property
    def object_mask(self) -> Bool[np.ndarray, "h w"] | None:
        """True for each pixel of the object, in the size of the input image; None for a model without a mask head."""
        return None if self.segmentation is None else coco_masks.decode(self.segmentation).astype(bool)


class Predictor:
    """A detector and its parameters. `load` creates one from the folder of a run or from an exported file.

    The detector of a run uses all devices of this process, an exported one the first device.

    A program is compiled at the first use of a bucket (a padded image size) of the recipe and serves all later images
    of this bucket.

    Attributes:
        class_names: names of labels 0..k-1.
        category_ids: their ids in the training data.
        step: step of the checkpoint.
        title: step and reason of the choice: "step 500, the best of 3 scored checkpoints (AP 0.6100)".
        recipe: the recipe of the run; `data` and `inference` are used here.
        views: the views of each image whose detections are merged.
    """

    def __init__(
        self,
        saved: Saved,
        where: str,
        recipe: ConfigDict | None = None,
        detector: Detector | None = None,
        exported: ExportedStep | None = None,
        views: Views | None = None,
        workdir: str = "",
    ) -> None:
        """`where`: name of the checkpoint in errors. `recipe`, `detector`: None: from the manifest.

        `exported`: the step of an exported file, used instead of a detector. `views`: None: the image alone. `workdir`:
        the folder of the run, with the evaluation for the best threshold; empty for an exported file.
        """
        manifest = saved.manifest
        if recipe is None:
            own = ("model",) if exported else OWN_DETECTOR if detector else ()
            recipe = recipe_of(manifest, where, own)
        self.recipe = recipe
        self.class_names: tuple[str, ...] = tuple(manifest["class_names"])
        self.category_ids: tuple[int, ...] = tuple(manifest["category_ids"])
        self.step, self.title = saved.step, saved.title
        self._manifest, self._where, self._exported = manifest, where, exported
        self._workdir = workdir
        self._labels = {category_id: label for label, category_id in enumerate(self.category_ids)}
        if exported is None:
            self._detector = detector or build_detector(self.recipe.model, len(self.class_names))
            self._devices = jax.local_devices()
            self._variables = replicate(saved.variables)
        else:
            self._devices = jax.local_devices()[:1]
            self._variables = jax.device_put(saved.variables, self._devices[0])
        self.views = Views() if views is None else views
        check_views(self.views)
        if exported and self.views.scales != (1.0,):
            raise UserError("views.scales", expected="(1.0,) for an exported file", found=str(self.views.scales))
        self._steps: dict[float, PredictStep] = {}  # by lowest score
        self._compiled: set[tuple] = set()  # (lowest score, shape of a batch)

    def __repr__(self) -> str:
        names = listed([printable(name) for name in self.class_names])
        return f"<Predictor: {self._where}, {counted(len(self.class_names), 'class')} ({names})>"

    def predict(
        self,
        images: ImageInput | Sequence[ImageInput],
        score_threshold: float | str = 0.5,
        batch_size: int = 1,
    ) -> list[Detection] | list[list[Detection]]:
        """Detects objects with a score of at least `score_threshold`, highest score first.

        Args:
            images: an image or a list of images: numpy arrays of uint8 ([h w 3] RGB, [h w] grey, [h w 4] RGBA), file
                paths or PIL images. The EXIF orientation of files and PIL images is applied.
            score_threshold: from 0 to 1, or "auto": the best one (`best_threshold`). A value below the recipe's
                inference.score_threshold compiles separate programs.
            batch_size: images per device processed at a time. Each size compiles separate programs.

        Returns:
            The detections of the image, or a list with the detections of each image.

        Raises:
            UserError: an image cannot be read or has another type; "auto" without an evaluation.
        """
        if score_threshold == AUTO:
            score_threshold = self.best_threshold()
        if not isinstance(images, list | tuple):
            return self.predict([images], score_threshold, batch_size)[0]
        source = GivenImages(images, self.class_names)
        found: list[list[Detection]] = [[] for _ in images]
        for located in self.locate(source, score_threshold=score_threshold, batch_size=batch_size):
            if num_non_finite := count_non_finite(located.detections):
                omitted = counted(num_non_finite, "detection")
                _LOG.warning("%s without finite numbers omitted: has the model diverged?", omitted)
            for index, results in per_image(located, source.records, self.category_ids):
                found[index] = [self._detection(result) for result in results if result["score"] >= score_threshold]
        return found

    def best_threshold(self) -> float:
        """The score threshold with the best F1, from the evaluation of this checkpoint by eval.py in the workdir.

        Raises UserError without such an evaluation, and for an exported file.
        """
        if self._exported:
            raise UserError(
                "score_threshold=auto",
                expected="a run",
                found="an exported file",
                remedy="give a number, or use the run",
            )
        return read_best_threshold(self._workdir, self.step, self.checkpoint)

    @property
    def checkpoint(self) -> str:
        """The digest of the parameters."""
        return self._manifest["digests"]["variables"]

    def draw(self, image: ImageInput, detections: Sequence[Detection]) -> UInt8[np.ndarray, "h w 3"]:
        """The RGB image with boxes, names, scores, object masks and Gaussian masks; small images are enlarged."""
        names = dict(zip(self.category_ids, self.class_names, strict=True))
        return draw_detections(as_rgb(image, "image"), map(_as_result, detections), names)

    def locate(
        self,
        source: Source,
        *,
        score_threshold: float | None = None,
        batch_size: int = 1,
        max_faulty: float = 1.0,
    ) -> Iterator[Located]:
        """Detections of every image of a source, batch by batch, in pixels of the padded input.

        Each image is resized as in evaluation and padded to the smallest suitable bucket of the recipe; padding rows
        of a batch are removed. Each process handles the whole source on its own devices. With several `views`, a batch
        is one image with the merged detections, in pixels of the image.

        Args:
            source: the images.
            score_threshold: detections with lower scores may be omitted; None: the recipe's threshold.
            batch_size: images per device processed at a time.
            max_faulty: the largest share of unreadable images, which give no detections; 1.0: no limit.
        """
        lowest = self._lowest_score(score_threshold)
        if lowest not in self._steps:
            self._steps[lowest] = self._exported or self._make_step(lowest)
        if not source.records:
            return
        if self.views.is_plain:
            yield from self._locate(source, self.recipe.data, lowest, batch_size, max_faulty)
            return

        def of_parts(parts: Source, data: ConfigDict) -> Iterator[Located]:
            return self._locate(parts, data, lowest, batch_size, max_faulty)

        rule = self.recipe.inference
        yield from locate_views(of_parts, source, self.recipe.data, self.views, rule.nms_iou, rule.max_detections)

    def _locate(
        self, source: Source, data: ConfigDict, lowest: float, batch_size: int, max_faulty: float
    ) -> Iterator[Located]:
        loader = EvalLoader(source, data, batch_size * len(self._devices), self._devices, 0, 1, max_faulty)
        with closing(loader):
            self._compile(lowest, loader)
            yield from map(without_filling, locate(self._steps[lowest], self._variables, loader))

    def check_classes(self, source: Source) -> None:
        """Raises UserError if the classes of the source and of the model differ."""
        check_classes(self._manifest, source.class_names, self._where)

    def _make_step(self, lowest: float) -> PredictStep:
        inference = self.recipe.inference.to_dict() | {"score_threshold": lowest}
        return make_predict_step(self._detector, inference)

    def _lowest_score(self, score_threshold: float | None) -> float:
        """The threshold in the compiled program: the recipe's, or 0 for a lower score_threshold."""
        usual = self.recipe.inference.score_threshold
        if score_threshold is None:
            return usual
        if not isinstance(score_threshold, int | float) or not 0 <= score_threshold <= 1:
            raise UserError("score_threshold", expected="a number from 0 to 1, or auto", found=str(score_threshold))
        if self._exported and score_threshold < usual:
            raise UserError(
                "score_threshold",
                expected=f"at least {usual:g}, the threshold in the exported file",
                found=f"{score_threshold:g}",
                remedy="export it again with a lower --score_threshold",
            )
        return usual if score_threshold >= usual else 0.0

    def _compile(self, lowest: float, loader: EvalLoader) -> None:
        """Compiles the missing programs of all buckets of the loader in parallel."""
        needed = {(lowest, shape) for shape in loader.shapes}
        if not needed <= self._compiled:
            compile_ahead(lower_predictions(self._steps[lowest], self._variables, loader))
            self._compiled |= needed

    def _detection(self, result: Mapping[str, Any]) -> Detection:
        x, y, width, height = result["bbox"]
        label = self._labels[result["category_id"]]
        return Detection(
            name=self.class_names[label],
            score=result["score"],
            box=(x, y, x + width, y + height),
            label=label,
            category_id=result["category_id"],
            mask_centres=tuple(map(tuple, result.get("mask_centres", ()))),
            mask_sigmas=tuple(map(tuple, result.get("mask_sigmas", ()))),
            segmentation=result.get("segmentation"),
        )


def load(
    workdir: str | os.PathLike,
    step: int | str = "best",
    recipe: ConfigDict | str | os.PathLike | None = None,
    detector: Detector | None = None,
    views: Views | None = None,
) -> Predictor:
    """Loads the detector of a checkpoint, or an exported one, for prediction.

    Programs that this process compiles are kept for later ones, as those of commands are, unless JAX already has a
    folder for them: the variable JAX_COMPILATION_CACHE_DIR names one, or, empty, switches this off.

    Args:
        workdir: folder of a run, also gs://BUCKET/FOLDER or s3://BUCKET/FOLDER, or a file that `lga_jax export
            --format stablehlo` wrote. A file has one step and its own recipe and detector.
        step: a number, "latest", or "best": the highest score, or the latest step if no step has a score.
        recipe: a recipe, its name or its path, to use instead of the checkpoint's recipe. The model must be the same.
        detector: the custom detector, if the run was trained with one.
        views: views of each image whose detections are merged: mirrored, at several sizes, in tiles. None: the image.

    Raises:
        UserError: the workdir or the step is missing, a value of `views` is out of range, the recipe describes another
            model, or the file is damaged, has expired or was written for another version.
    """
    keep_compiled()
    workdir = os.path.expanduser(workdir)
    if os.path.isfile(workdir):
        return _load_file(workdir, step, recipe, detector, views)
    saved = restore_params(workdir, step)
    where = f"{workdir}, step {saved.step}"
    if recipe is not None:
        recipe = check(as_recipe(recipe), own=OWN_DETECTOR if detector else ())
        check_model(saved.manifest, recipe.model, where)
    return Predictor(saved, where, recipe, detector, views=views, workdir=workdir)


def _load_file(
    path: str,
    step: int | str,
    recipe: ConfigDict | str | os.PathLike | None,
    detector: Detector | None,
    views: Views | None,
) -> Predictor:
    if step not in ("best", "latest") or recipe is not None or detector is not None:
        raise UserError(
            path,
            expected="no step, recipe or detector beside an exported file, which has its own",
            found=str(step) if recipe is None and detector is None else "a recipe or a detector",
        )
    exported = read_exported(path)
    return Predictor(exported.saved, path, exported=exported.step, views=views)


def _as_result(detection: Detection) -> dict[str, Any]:
    x1, y1, x2, y2 = detection.box
    return {"bbox": (x1, y1, x2 - x1, y2 - y1), **detection._asdict()}
