"""Evaluation of a whole source with a stand-in for the detector that knows the ground truth."""

import dataclasses
import json
import math
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.coco import get_config
from lga_jax.data.batches import loader
from lga_jax.data.challenge.source import Challenge
from lga_jax.data.source import Record
from lga_jax.errors import UserError
from lga_jax.evaluation.evaluate import score_source
from lga_jax.files import make_folder
from lga_jax.inference import step as step_module
from lga_jax.inference.step import lower_predictions, make_predict_step
from lga_jax.models.detector import Detector
from lga_jax.report.tables import describe_attention, format_result, write_result
from lga_jax.structs import Detections, Outputs, RoIs, RPNOutputs, StageOutputs
from tests.models import tiny

DATA = get_config().data
DATA.update(
    short_edges=(64,),
    eval_short_edge=64,
    long_edge=128,
    flip_probability=0.0,
    buckets=((64, 96), (96, 64)),
    num_workers=1,
    prefetch=1,
)


class Boards:
    """Images of three sizes, each with one object of class 'b' (category 30) in its middle; image ids are strings."""

    class_names = ("a", "b")
    report = ()
    fingerprint = ""

    def __init__(self, count):
        sizes = [(40, 50), (50, 40), (128, 128)]
        self.records = [
            Record(
                image_id=f"{count - i}.png",
                height=h,
                width=w,
                boxes_original=np.float32([[w / 4, h / 4, w / 2, h / 2]]),
                labels=np.int32([1]),
                crowd=np.array([False]),
            )
            for i, (h, w) in zip(range(count), sizes * count, strict=False)
        ]

    def image(self, index):
        record = self.records[index]
        return np.full((record.height, record.width, 3), index, np.uint8)

    def coco_json(self):
        boxes = [(record.image_id, record.boxes_original[0].tolist()) for record in self.records]
        return {
            "images": [{"id": r.image_id, "height": r.height, "width": r.width} for r in self.records],
            "categories": [{"id": 20, "name": "a"}, {"id": 30, "name": "b"}],
            "annotations": [
                {"id": i + 1, "image_id": name, "category_id": 30, "bbox": [x, y, x2 - x, y2 - y]}
                for i, (name, (x, y, x2, y2)) in enumerate(boxes)
            ],
        }


def oracle(source, spoil=lambda index, box: box, slots=2):
    """A predict step that answers the first ground-truth box of each image, as `spoil(index, box)` leaves it."""

    def predict(variables, batch):
        index = np.asarray(batch.index)
        records = [source.records[max(i, 0)] for i in index.ravel()]  # rows that fill up answer as well: must not count
        boxes = [spoil(i, record.boxes_original[0]) for i, record in zip(index.ravel(), records, strict=True)]
        scale = np.asarray(batch.scale_hw)[..., [1, 0, 1, 0]]
        boxes = (np.array(boxes).reshape(*index.shape, 4) * scale).astype(np.float32)
        padded = np.stack([boxes] + [np.zeros_like(boxes)] * (slots - 1), axis=-2)
        valid = np.zeros(padded.shape[:-1], bool)
        valid[..., 0] = True
        labels = np.array([record.labels[0] for record in records], np.int32).reshape(*index.shape, 1)
        empty = np.zeros((*valid.shape, 0, 2), np.float32)
        return Detections(
            boxes=padded,
            scores=valid * np.float32(0.9),
            labels=np.repeat(labels, slots, axis=-1),
            valid=valid,
            rois=padded,
            mask_centres=empty,
            mask_sigmas=empty,
        )

    return predict


def run(predict, source, should_stop=lambda: False, progress=False, batch_size=8):
    return score_source(predict, {}, source, DATA, batch_size, should_stop, progress)


@pytest.mark.parametrize("count", [3, 8, 13])
def test_perfect_answers_score_one_and_no_image_is_lost(count):
    source = Boards(count)
    result = run(oracle(source), source)
    assert result.num_images == count == len(result.detections)
    assert [detection["image_id"] for detection in result.detections] == [r.image_id for r in source.records]
    assert {detection["category_id"] for detection in result.detections} == {30}
    assert result.summary["AP"] == pytest.approx(1.0)
    assert result.per_class["b"] == pytest.approx(1.0) and math.isnan(result.per_class["a"])
    assert result.challenges == [] and result.attention is None and result.num_non_finite == 0


def test_detections_are_in_original_pixels():
    source = Boards(3)
    for detection, record in zip(run(oracle(source), source).detections, source.records, strict=True):
        x1, y1, x2, y2 = record.boxes_original[0]
        np.testing.assert_allclose(detection["bbox"], [x1, y1, x2 - x1, y2 - y1], atol=2e-3)


def test_batches_with_fewer_slots_join_the_others():
    source = Boards(9)
    wide, narrow = oracle(source, slots=5), oracle(source, slots=2)
    result = run(lambda v, batch: (wide if batch.images.shape[2] == 64 else narrow)(v, batch), source)
    assert len(result.detections) == 9


def test_non_finite_detections_are_counted_and_said():
    source = Boards(6)
    result = run(oracle(source, lambda index, box: box * np.nan if index == 2 else box), source)
    assert result.num_non_finite == 1
    assert len(result.detections) == 5
    assert "1 detections were not finite" in format_result(result)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda plan: plan[1:], "found 2 rows for 2 images"),
        (lambda plan: plan + plan[:1], "found 10 rows for 6 images"),
        (lambda plan: plan[1:] * 3, "found 6 rows for 2 images"),  # as many as there should be
    ],
    ids=["missing", "repeated", "repeated for missing"],
)
def test_a_missing_or_repeated_image_is_an_error(monkeypatch, spoil, found):
    plan = loader.plan_evaluation
    monkeypatch.setattr(loader, "plan_evaluation", lambda *args: spoil(plan(*args)))
    source = Boards(6)
    with pytest.raises(RuntimeError, match=f"expected each of 6 images once, {found}"):
        run(oracle(source), source, batch_size=4)


def test_should_stop_is_asked_between_batches_and_ends_with_none():
    source = Boards(40)
    answers = iter([False, True])
    assert run(oracle(source), source, should_stop=lambda: next(answers)) is None
    assert next(answers, "all asked") == "all asked"


def test_progress_is_shown_only_on_demand(capsys):
    source = Boards(3)
    run(oracle(source), source)
    assert capsys.readouterr() == ("", "")
    run(oracle(source), source, progress=True)
    assert "evaluating" in capsys.readouterr().err


def test_challenge_source_reports_challenges(tmp_path):
    source = Challenge(num_images=12, seed=1, image_hw=(64, 64), max_objects=1)

    def with_masks(variables, batch):
        detections = oracle(source)(variables, batch)
        low, high = detections.boxes[..., None, :2], detections.boxes[..., None, 2:]
        centres = np.concatenate([low + 0.25 * (high - low), low + 0.75 * (high - low)], axis=-2)
        return detections._replace(mask_centres=centres, mask_sigmas=np.ones_like(centres))

    result = run(with_masks, source)
    assert result.summary["AP"] == pytest.approx(1.0)
    assert sum(entry.num_images for entry in result.challenges) == 12
    assert result.attention.num_true_positives == 12
    assert result.attention.spread == pytest.approx(7 * math.hypot(0.25, 0.25), rel=1e-3)
    text = format_result(result)
    assert "AP per challenge" in text and describe_attention(result.attention) in text

    make_folder(tmp_path / "eval_5")
    write_result(result, tmp_path / "eval_5")
    assert json.loads((tmp_path / "eval_5" / "detections.json").read_text()) == result.detections
    metrics = json.loads((tmp_path / "eval_5" / "metrics.json").read_text())
    assert metrics["summary"]["AP"] == pytest.approx(1.0) and metrics["detections"] == 12
    assert metrics["attention"]["num_true_positives"] == 12
    assert None in metrics["per_class"].values()  # nan is no JSON
    assert sorted(path.name for path in (tmp_path / "eval_5").iterdir()) == ["detections.json", "metrics.json"]


@pytest.mark.parametrize("pixels", [2**20, 1])
def test_the_predict_step_answers_for_every_device_and_batch_row(pixels, monkeypatch):
    """A stand-in detector whose single RoI is the image itself: the real `detect`, under pmap on four devices.

    All images of a device at once, or one after the other, as large ones on CPUs.
    """

    class WholeImage(Detector):
        def setup(self):
            """No stages."""

        @nn.compact
        def __call__(self, images, image_hw):
            b = images.shape[0]
            corner = jnp.concatenate([jnp.zeros((b, 2)), image_hw[:, ::-1]], axis=1)
            nothing = jnp.zeros((b, 1))
            stage = StageOutputs(
                rois=RoIs(corner[:, None], nothing, jnp.ones((b, 1), bool)),
                targets=None,
                gaussians=None,
                guide_logits=None,
                class_logits=jnp.tile(self.param("logits", nn.initializers.zeros, (1, 3)), (b, 1, 1)),
                box_deltas=jnp.zeros((b, 1, 2, 4)),
                coder_weights=jnp.ones(4),
            )
            return Outputs(RPNOutputs(jnp.zeros((1, 4)), nothing, jnp.zeros((b, 1, 4)), None), (stage,))

    monkeypatch.setattr(step_module, "_CPU_PIXELS", pixels)
    source = Boards(9)
    inference = dict(score_threshold=0.1, nms_iou=0.5, max_candidates=10, max_detections=3, min_size=0.0)
    fields = {field.name: None for field in dataclasses.fields(Detector) if field.name not in ("parent", "name")}
    predict = make_predict_step(WholeImage(**fields), inference)
    variables = {"params": {"logits": np.float32([[0.0, 9.0, 0.0]])}}
    result = score_source(predict, variables, source, DATA, 2 * jax.local_device_count(), lambda: False, False)
    assert len(result.detections) == 9
    for detection, record in zip(result.detections, source.records, strict=True):
        assert detection["category_id"] == 30
        np.testing.assert_allclose(detection["bbox"], [0, 0, record.width, record.height], atol=2e-3)


TWO_PROCESSES = """
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from tests.evaluation.test_evaluate import Boards, oracle, run
source = Boards(7)
result = run(oracle(source), source)
stopped = run(oracle(source), source, should_stop=lambda: jax.process_index() == 1)
print(json.dumps([result.summary["AP"], result.detections, stopped]))
"""


def test_two_processes_share_the_images_and_agree_on_the_result_and_on_stopping():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, address, str(number)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number in range(2)
    ]
    try:
        lines = [process.communicate(timeout=600)[0].splitlines()[-1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    source = Boards(7)
    alone = run(oracle(source), source)
    for line in lines:
        ap, detections, stopped = json.loads(line)
        assert ap == pytest.approx(1.0) and stopped is None
        assert detections == alone.detections


def test_images_at_once_divide_the_batch_and_stay_below_the_bound():
    assert [step_module._images_at_once(8, 2**10, width) for width in (2**7, 300, 2**9, 2**10, 2**12)] == [
        8,
        2,
        2,
        1,
        1,
    ]
    assert step_module._images_at_once(7, 2**10, 2**8) == 1


def test_parameters_of_another_model_are_one_line():
    case = tiny.built()
    params = dict(case.variables["params"])
    params["attention"] = {name: leaves for name, leaves in params["attention"].items() if name != "centres"}
    predict_step = make_predict_step(case.detector, get_config().inference.to_dict())
    with closing(loader.EvalLoader(Boards(4), DATA, 4, jax.local_devices())) as batches:
        message = "checkpoint: expected the parameters of this version's model, found others .*centres"
        with pytest.raises(UserError, match=message) as raised:
            lower_predictions(predict_step, {"params": params}, batches)
    assert "\n" not in str(raised.value)
