"""The Predictor on a tiny detector with random weights: every kind of image, and the same answers as evaluation."""

import jax
import numpy as np
import pytest
from PIL import Image

from lga_jax.data.object_masks import Bitmap, to_rle
from lga_jax.data.source import open_source
from lga_jax.drawing.pictures import draw_detections
from lga_jax.errors import UserError
from lga_jax.evaluation.evaluate import evaluate
from lga_jax.inference import predictor as predictor_module
from lga_jax.inference.predictor import Detection, load
from lga_jax.structs import Detections
from tests.tiny_run import recipe

IMAGE = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)


def same(one, other):
    """Whether two lists of detections are equal but for the last digits."""
    numbers = [(d.score, *d.box, *np.ravel(d.mask_centres), *np.ravel(d.mask_sigmas)) for d in one]
    others = [(d.score, *d.box, *np.ravel(d.mask_centres), *np.ravel(d.mask_sigmas)) for d in other]
    names = [d.name for d in one] == [d.name for d in other]
    return names and len(numbers) == len(others) and np.allclose(numbers, others, atol=2e-3)


def test_one_image_gives_a_list_of_detections_best_first(tiny_predictor):
    found = tiny_predictor.predict(IMAGE, score_threshold=0.01)
    assert found and all(isinstance(d, Detection) for d in found)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    for d in found:
        x1, y1, x2, y2 = d.box
        assert 0 <= x1 <= x2 <= 60 and 0 <= y1 <= y2 <= 40  # pixels of the image as given
        assert d.name == tiny_predictor.class_names[d.label]
        assert d.category_id == tiny_predictor.category_ids[d.label]
        assert np.shape(d.mask_centres) == np.shape(d.mask_sigmas) == (4, 2)


def test_a_list_of_all_kinds_gives_a_list_for_each_in_its_order(tiny_predictor, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(IMAGE).save(path)
    tall = np.ascontiguousarray(IMAGE.transpose(1, 0, 2))
    several = tiny_predictor.predict(
        [IMAGE, tall, path, str(path), Image.fromarray(IMAGE), IMAGE[..., 0]], score_threshold=0.01
    )
    alone = tiny_predictor.predict(IMAGE, score_threshold=0.01)
    assert len(several) == 6
    for index in (0, 2, 3, 4):
        assert same(several[index], alone)
    assert same(several[1], tiny_predictor.predict(tall, score_threshold=0.01)) and not same(several[1], alone)
    assert not same(several[5], alone)


def test_no_images_give_no_lists(tiny_predictor):
    assert tiny_predictor.predict([]) == []


def test_the_threshold_is_the_least_score(tiny_predictor):
    found = tiny_predictor.predict(IMAGE, score_threshold=0.01)
    middle = found[len(found) // 2].score
    some = tiny_predictor.predict(IMAGE, score_threshold=middle)
    assert len(some) < len(found) and min(d.score for d in some) >= middle
    assert same(some, [d for d in found if d.score >= middle])
    assert tiny_predictor.predict(IMAGE) == [d for d in found if d.score >= 0.5]  # the default


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_out_of_range_is_a_users_error(tiny_predictor, threshold):
    with pytest.raises(UserError) as raised:
        tiny_predictor.predict(IMAGE, score_threshold=threshold)
    assert raised.value.subject == "score_threshold"


def test_faulty_images_are_a_users_error_with_their_name(tiny_predictor, tmp_path):
    half = tmp_path / "half.png"
    Image.fromarray(IMAGE).save(half)
    half.write_bytes(half.read_bytes()[:60])  # a header, no pixels
    for image, subject in (
        (IMAGE / 255, "image 1"),
        (tmp_path / "none.png", str(tmp_path / "none.png")),
        (half, str(half)),
    ):
        with pytest.raises(UserError) as raised:
            tiny_predictor.predict([IMAGE, image])
        assert raised.value.subject == subject


def test_images_of_one_bucket_compile_once(tiny_predictor, caplog):
    tiny_predictor.predict(IMAGE)
    with jax.log_compiles():
        for hw in ((40, 60), (64, 64), (200, 100), (1, 1)):
            tiny_predictor.predict(np.zeros((*hw, 3), np.uint8))
        assert "ompil" not in caplog.text
        jax.jit(lambda x: x + 1)(1)  # such a line would be there
        assert "ompil" in caplog.text


def test_it_finds_what_evaluation_finds(tiny_predictor):
    source = open_source(**tiny_predictor.recipe.data.eval)
    result = evaluate(tiny_predictor, source)
    found = tiny_predictor.predict([source.image(i) for i in range(len(source.records))], score_threshold=0.01)
    flat = [(record.image_id, d) for record, some in zip(source.records, found, strict=True) for d in some]
    assert len(flat) == len(result.detections) > 5
    for (image_id, d), detection in zip(flat, result.detections, strict=True):
        assert (image_id, d.category_id) == (detection["image_id"], detection["category_id"])
        x, y, width, height = detection["bbox"]
        np.testing.assert_allclose(d.box, [x, y, x + width, y + height], atol=1e-3)


def test_a_drawing_is_the_one_of_the_results(tiny_predictor):
    detection = Detection("tipper", 0.75, (10.0, 8.0, 40.0, 30.0), 0, 1, ((20.0, 20.0),), ((5.0, 4.0),))
    picture = tiny_predictor.draw(IMAGE, [detection])
    result = dict(bbox=[10, 8, 30, 22], category_id=tiny_predictor.category_ids[0], score=0.75)
    result |= dict(mask_centres=[[20, 20]], mask_sigmas=[[5, 4]])
    names = dict(zip(tiny_predictor.category_ids, tiny_predictor.class_names, strict=True))
    assert detection.category_id in names
    np.testing.assert_array_equal(picture, draw_detections(IMAGE, [result], names))


def test_an_object_mask_is_decoded_when_it_is_read(tiny_predictor):
    pixels = np.zeros((40, 60), bool)
    pixels[8:30, 10:40] = True
    rle = to_rle(Bitmap(pixels), (40, 60))
    detection = Detection("tipper", 0.75, (10.0, 8.0, 40.0, 30.0), 0, 1, (), (), rle)
    np.testing.assert_array_equal(detection.object_mask, pixels)
    assert (tiny_predictor.draw(IMAGE, [detection]) != tiny_predictor.draw(IMAGE, [Detection(*detection[:7])])).any()
    assert Detection(*detection[:7]).object_mask is None


def test_detections_that_are_not_finite_are_left_out_and_said(tiny_run, monkeypatch, caplog):
    class Nan:
        def lower(self, variables, batch):
            return jax.jit(lambda: 0).lower()

        def __call__(self, variables, batch):
            shape = batch.images.shape[:2]
            pairs = np.zeros((*shape, 2, 1, 2), np.float32)
            boxes = np.broadcast_to(np.float32([[0, 0, 4, 4], [0, 0, np.nan, 4]]), (*shape, 2, 4))
            ones = np.ones((*shape, 2))
            scores, labels, valid = ones.astype(np.float32), ones.astype(np.int32), ones.astype(bool)
            return Detections(
                boxes, scores, labels, valid, boxes, pairs, pairs, np.zeros((*shape, 2, 0, 0), np.float32)
            )

    monkeypatch.setattr(predictor_module, "make_predict_step", lambda detector, inference: Nan())
    found = load(tiny_run / "runs" / "tiny").predict(IMAGE)
    assert len(found) == 1
    assert "1 detection without finite numbers" in caplog.text


def test_load_says_which_checkpoint_and_takes_another_recipe_of_the_same_model(tiny_run):
    model = load(tiny_run / "runs" / "tiny", step=7)
    assert (model.step, len(model.class_names)) == (7, len(model.category_ids))
    assert model.recipe.to_dict() == recipe().to_dict()
    other = recipe()
    other.inference.max_detections = 3
    assert load(tiny_run / "runs" / "tiny", recipe=other).recipe.inference.max_detections == 3
    other.model.attention = "none"
    with pytest.raises(UserError) as raised:
        load(tiny_run / "runs" / "tiny", recipe=other)
    assert raised.value.subject.endswith("step 7")


def test_a_leading_tilde_is_the_users_folder(tiny_run, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_run))
    assert load("~/runs/tiny").step == 7


@pytest.mark.parametrize("change", [dict(workdir="none"), dict(step=8)])
def test_a_missing_run_or_step_is_a_users_error(tiny_run, change):
    with pytest.raises(UserError):
        load(**dict(workdir=tiny_run / "runs" / "tiny") | change)


def test_it_is_shown_in_one_line_with_step_and_classes(tiny_run, tiny_predictor):
    shown = repr(tiny_predictor)
    assert shown.startswith(f"<Predictor: {tiny_run}/runs/tiny, step 7, 8 classes (") and len(shown.splitlines()) == 1
