"""From a recipe to modules; and a backbone, an attention and a cascade that no file of the library knows."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.coco import get_config
from lga_jax.errors import UserError
from lga_jax.models.build import build_backbone, build_detector, build_stage
from lga_jax.models.freezing import frozen_labels
from lga_jax.models.postprocess import detect
from lga_jax.models.roi.attention.lga import LGAHead
from lga_jax.models.roi.attention.none import NoAttention
from lga_jax.structs import Attention, Batch
from lga_jax.training.step import create_state, make_train_step
from tests.models import tiny

LOSSES = get_config().losses.to_dict()


class Patches(nn.Module):
    """A backbone of one's own: two maps, of strides 8 and 16."""

    frozen_stages: int = 1
    strides: ClassVar[tuple[int, ...]] = (8, 16)

    @nn.compact
    def __call__(self, x, train):
        fine = nn.relu(nn.Conv(12, (8, 8), (8, 8), name="stem")(x))
        if self.frozen_stages:
            fine = jax.lax.stop_gradient(fine)
        return [fine, nn.relu(nn.Conv(24, (2, 2), (2, 2), name="deep")(fine))]

    @staticmethod
    def part_of(path):
        return {"stem": 0, "deep": 1}[path[0]]


class Gate(nn.Module):
    """An attention of one's own, which looks at both levels and has a guide."""

    num_classes: int

    @nn.compact
    def __call__(self, crop, train):
        crops, fine = crop("pyramid"), crop("c2")
        gate = nn.sigmoid(nn.Dense(1)(fine))
        guide = nn.Dense(self.num_classes + 1, name="guide")((gate * crops).mean(axis=(-3, -2)))
        return Attention(gate * crops, guide_logits=guide[..., None, :] if train else None)


def one_step(detector):
    """Metrics of a training step, the parameters before and after, and the detections after it."""
    images, image_hw, targets = tiny.batch(num_images=1)
    keys = jax.random.split(jax.random.key(0), 1)
    variables = jax.jit(detector.init)(jax.random.key(0), images, image_hw, targets, keys)
    variables = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    labels = frozen_labels(variables["params"], detector.backbone)
    optimizer = optax.multi_transform({"trained": optax.sgd(0.01), "frozen": optax.set_to_zero()}, labels)
    batch = Batch(images, image_hw, jnp.ones((1, 2)), targets, jnp.arange(1))
    batch = jax.tree.map(lambda leaf: np.tile(leaf, (jax.local_device_count(), *[1] * leaf.ndim)), batch)
    step = make_train_step(detector, optimizer, LOSSES, ema_decay=0.0, seed=0)
    before = jax.device_get(variables["params"])
    state, metrics = step(create_state(variables, optimizer, ema=False), batch)
    rule = dict(score_threshold=0.0, nms_iou=0.5, min_size=0.0, max_candidates=40, max_detections=5)
    trained = {"params": state.params, "batch_stats": state.batch_stats}
    found = jax.jit(lambda v: detect(detector.apply(v, images, image_hw), image_hw, **rule))(trained)
    return jax.device_get((metrics, before, state.params, found))


def changed(before, after):
    return jax.tree.map(lambda one, other: bool(np.any(one != other)), before, after)


def test_a_backbone_and_an_attention_of_ones_own_are_trained():
    config = tiny.model_config()
    config.anchors.sizes = (16, 32, 64)
    detector = build_detector(config, tiny.NUM_CLASSES, Patches(), Gate(tiny.NUM_CLASSES))
    metrics, before, after, found = one_step(detector)
    assert all(np.isfinite(value) for value in metrics.values()) and metrics["guide"] > 0
    moved = changed(before, after)
    assert not any(jax.tree.leaves(moved["backbone"]["stem"])) and moved["backbone"]["deep"]["kernel"]
    assert moved["attention"]["guide"]["kernel"] and moved["attention"]["Dense_0"]["kernel"]
    assert set(after["fpn"]) == {"lateral3", "output3", "lateral4", "output4"}
    assert found.valid.any() and found.mask_centres.shape[2] == 0


def cascade(config):
    """Three stages with rising IoU and finer coders, as Cai and Vasconcelos have them."""
    detector = build_detector(config, tiny.NUM_CLASSES)
    stages = [
        build_stage(config.to_dict(), tiny.NUM_CLASSES, detector.backbone.strides).clone(
            sampling=dict(num_samples=16, positive_fraction=fraction, positive_iou=iou), coder_weights=weights
        )
        for iou, fraction, weights in (
            (0.5, 0.25, (10.0, 10.0, 5.0, 5.0)),
            (0.6, 1.0, (20.0, 20.0, 10.0, 10.0)),
            (0.7, 1.0, (30.0, 30.0, 15.0, 15.0)),
        )
    ]
    return detector.clone(stages=tuple(stages))


@pytest.fixture(scope="module")
def three():
    return tiny.built_of(cascade(tiny.model_config()))


def test_a_cascade_is_trained():
    metrics, before, after, found = one_step(cascade(tiny.model_config()))
    assert {"roi_class", "roi_class_2", "roi_class_3", "guide_3"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    moved = changed(before, after)
    for stage in (moved, moved["stages_1"], moved["stages_2"]):
        assert stage["box_head"]["classes"]["kernel"] and stage["attention"]["guide_classes"]["kernel"]
    assert found.valid.any()


def test_each_stage_of_a_cascade_reads_the_boxes_that_the_one_before_refined(three):
    outputs = jax.jit(three.detector.apply)(three.variables, three.images, three.image_hw)
    for number in range(2):
        refined = three.detector.stages[number].refined(outputs.stages[number], three.image_hw)
        np.testing.assert_allclose(outputs.stages[number + 1].rois.boxes, refined.boxes, atol=1e-3)
        moved = np.abs(np.asarray(refined.boxes - outputs.stages[number].rois.boxes))
        assert moved.max() > 1e-3
    last = outputs.stages[-1]
    assert last.coder_weights.tolist() == [30, 30, 15, 15] and last.targets is None


def test_a_later_stage_samples_by_its_own_rule_and_key(three):
    outputs = jax.jit(three.detector.apply)(three.variables, three.images, three.image_hw, three.targets, three.keys)
    shares = [np.asarray(stage.targets.labels < tiny.NUM_CLASSES).sum(axis=1) for stage in outputs.stages]
    assert shares[0].max() <= 4  # a quarter of 16
    for stage in outputs.stages:  # each sees the true boxes, so each has positives of both objects
        for labels in np.asarray(stage.targets.labels):
            assert {0, 2} <= set(labels)


def test_no_loss_of_a_later_stage_reaches_the_stages_and_the_rpn_before_it(three):
    @jax.jit
    def gradient(params):
        def loss(params):
            outputs = three.detector.apply({"params": params}, three.images, three.image_hw, three.targets, three.keys)
            terms = three.detector.stages[1].losses(outputs.stages[1], LOSSES)
            return sum(terms.values())

        return jax.grad(loss)(params)

    found = gradient(three.variables["params"])
    reached = {part: any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(tree)) for part, tree in found.items()}
    nothing = dict.fromkeys(("rpn", "attention", "box_head", "stages_2"), False)
    assert reached == dict.fromkeys(("backbone", "fpn", "stages_1"), True) | nothing


def test_a_recipe_adds_the_stages_of_a_cascade():
    config = tiny.model_config()
    config.box_head.class_agnostic = True
    config.cascade.update(
        attentions=("none", "lga"), positive_ious=(0.6, 0.7), coder_scales=(2.0, 3.0), loss_weights=(0.5, 0.25)
    )
    first, second, third = build_detector(config, tiny.NUM_CLASSES).stages
    assert [type(stage.attention) for stage in (first, second, third)] == [LGAHead, NoAttention, LGAHead]
    assert [stage.sampling["positive_iou"] for stage in (first, second, third)] == [0.5, 0.6, 0.7]
    assert second.coder_weights == (20, 20, 10, 10) and third.coder_weights == (30, 30, 15, 15)
    assert [stage.loss_weight for stage in (first, second, third)] == [1, 0.5, 0.25]
    assert all(stage.box_head.class_agnostic for stage in (first, second, third))
    variables, outputs = tiny.shapes(config)
    assert variables["params"]["stages_2"]["box_head"]["deltas"]["kernel"].shape == (32, 4)
    assert [stage.gaussians is None for stage in outputs.stages] == [False, True, False]


def test_the_backbone_of_a_recipe_without_a_family_is_a_resnet():
    """Recipes of version 0.1 name none."""
    model = tiny.model_config().to_dict()
    del model["backbone"]["name"]
    assert build_backbone(model).depth == 18


def test_a_configuration_of_another_version_is_one_line():
    config = tiny.model_config()
    del config.lga.mu
    config.lga.masks = 4
    with pytest.raises(UserError) as caught:
        build_detector(config, 3)
    assert caught.value.subject == "model.lga" and "masks, mu" in caught.value.found


@pytest.mark.parametrize(("backbone", "count"), [(None, 2), (Patches(), 5)])
def test_as_many_anchor_sizes_as_the_backbone_has_levels(backbone, count):
    config = tiny.model_config()
    config.anchors.sizes = tuple(range(8, 8 + count))
    with pytest.raises(UserError) as caught:
        build_detector(config, 3, backbone)
    assert caught.value.subject == "model.anchors.sizes" and caught.value.found == str(count)
