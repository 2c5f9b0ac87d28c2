"""The prediction step: the real `detect` under pmap, on every device and batch row."""

import dataclasses
from contextlib import closing

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.coco import get_config
from lga_jax.data.batches import loader
from lga_jax.errors import UserError
from lga_jax.evaluation.evaluate import score_source
from lga_jax.inference import step as step_module
from lga_jax.inference.step import lower_predictions, make_predict_step, replicate
from lga_jax.models.build import build_detector
from lga_jax.models.detector import Detector
from lga_jax.structs import Outputs, RoIs, RPNOutputs, StageOutputs
from tests.evaluation.boards import DATA, Boards
from tests.tiny_run import random_variables, recipe


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
    detector = build_detector(recipe().model, 2)
    params = dict(random_variables(detector)["params"])
    params["attention"] = {name: leaves for name, leaves in params["attention"].items() if name != "centres"}
    predict_step = make_predict_step(detector, get_config().inference.to_dict())
    batches = loader.EvalLoader(Boards(4), DATA, 4, jax.local_devices())
    with closing(batches), pytest.raises(UserError) as raised:
        lower_predictions(predict_step, {"params": params}, batches)
    assert raised.value.subject == "checkpoint" and "centres" in raised.value.found
    assert "\n" not in str(raised.value)


def test_every_device_has_a_copy_of_its_own_of_each_leaf():
    original = {"a": np.arange(6.0).reshape(2, 3), "b": [np.int32(4)]}
    copies = replicate(original)
    assert jax.tree.structure(copies) == jax.tree.structure(original)
    for copy, leaf in zip(jax.tree.leaves(copies), jax.tree.leaves(original), strict=True):
        assert len(copy.addressable_shards) == jax.local_device_count()
        for shard in copy.addressable_shards:
            np.testing.assert_array_equal(shard.data, leaf)
    shared = jnp.ones(3)
    one, other = replicate([shared, shared])  # a step that donates the one must not lose the other
    assert one.addressable_data(0).unsafe_buffer_pointer() != other.addressable_data(0).unsafe_buffer_pointer()
