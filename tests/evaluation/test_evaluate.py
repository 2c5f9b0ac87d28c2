"""Evaluation of a whole source with a stand-in for the detector that knows the ground truth."""

import inspect
import json
import math
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lga_jax.data.batches import loader
from lga_jax.data.challenge.source import Challenge
from lga_jax.data.source import open_source
from lga_jax.errors import UserError
from lga_jax.evaluation.evaluate import evaluate, open_data, score_source
from lga_jax.files import make_folder
from lga_jax.processes.mesh import local_rows
from lga_jax.report.tables import describe_attention, format_result, write_result
from lga_jax.structs import Detections
from tests.evaluation.boards import DATA, Boards


def oracle(source, spoil=lambda index, box: box, slots=2):
    """A predict step that answers the first ground-truth box of each image, as `spoil(index, box)` leaves it."""

    def predict(variables, batch):
        index = local_rows(batch.index)
        records = [source.records[max(i, 0)] for i in index.ravel()]  # rows that fill up answer as well: must not count
        boxes = [spoil(i, record.boxes_original[0]) for i, record in zip(index.ravel(), records, strict=True)]
        scale = local_rows(batch.scale_hw)[..., [1, 0, 1, 0]]
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
            masks=np.zeros((*valid.shape, 0, 0), np.float32),
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
    assert "1 detection without finite numbers" in format_result(result)


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
    write_result(result, source, tmp_path / "eval_5", {})
    assert json.loads((tmp_path / "eval_5" / "detections.json").read_text()) == result.detections
    metrics = json.loads((tmp_path / "eval_5" / "metrics.json").read_text())
    assert metrics["summary"]["AP"] == pytest.approx(1.0) and metrics["detections"] == 12
    assert metrics["attention"]["num_true_positives"] == 12
    assert None in metrics["per_class"].values()  # nan is no JSON
    assert sorted(path.name for path in (tmp_path / "eval_5").iterdir()) == ["detections.json", "metrics.json"]


def test_masks_are_scored_beside_boxes(tmp_path):
    """Vehicles fill between a fourth and all of their boxes: masks that fill their boxes are right for some IoUs."""
    source = Challenge(num_images=12, seed=1, image_hw=(64, 64), max_objects=1)

    def with_masks(variables, batch):
        detections = oracle(source)(variables, batch)
        return detections._replace(masks=np.ones((*detections.valid.shape, 4, 4), np.float32))

    result = run(with_masks, source)
    assert result.summary["AP"] == pytest.approx(1.0)
    assert 0.05 < result.summary["segm/AP"] < result.summary["segm/AP50"] <= 1
    assert result.segm_per_class.keys() == result.per_class.keys()
    assert "segm/AP " in format_result(result)
    write_result(result, source, tmp_path, {})
    assert json.loads((tmp_path / "metrics.json").read_text())["summary"]["segm/AP"] == result.summary["segm/AP"]
    assert json.loads((tmp_path / "detections.json").read_text())[0]["segmentation"]["size"] == [64, 64]
    assert "segm/AP" not in run(oracle(source), source).summary


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


def test_a_model_is_scored_on_the_data_of_its_recipe_or_on_others(tiny_run, tiny_predictor):
    result = evaluate(tiny_predictor)
    settings = tiny_predictor.recipe.data.eval.to_dict()
    assert result.num_images == settings["num_images"] == 5
    assert [d["image_id"] for d in evaluate(tiny_predictor, settings | {"num_images": 2}).detections] == [
        d["image_id"] for d in result.detections if d["image_id"] in (0, 1)
    ]
    assert evaluate(tiny_predictor, open_source(**settings)).summary == result.summary


def test_data_that_are_no_source_and_no_settings_are_refused(tiny_predictor):
    unchecked = inspect.unwrap(open_data)  # as users call it: without the checks of annotations that tests add
    with pytest.raises(UserError) as caught:
        unchecked(tiny_predictor, "data/mine")
    assert (caught.value.subject, caught.value.found) == ("data", "'data/mine'")


def test_data_of_other_classes_and_settings_beside_a_predictor_are_refused(tiny_predictor):
    with pytest.raises(UserError) as raised:
        evaluate(tiny_predictor, Boards(3))
    assert raised.value.subject.endswith("step 7")
    for options in (dict(step=7), dict(recipe=tiny_predictor.recipe)):
        with pytest.raises(UserError) as raised:
            evaluate(tiny_predictor, **options)
        assert raised.value.subject == "recipe, step"


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        (dict(source="chalenge"), "data.eval.source"),
        (dict(num_image=2), "data.eval.num_image"),
        (dict(num_images="two"), "data.eval.num_images"),
    ],
)
def test_wrong_settings_of_data_are_a_users_error(tiny_predictor, change, subject):
    with pytest.raises(UserError) as raised:
        evaluate(tiny_predictor, tiny_predictor.recipe.data.eval.to_dict() | change)
    assert raised.value.subject == subject
