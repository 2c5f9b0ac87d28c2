"""The mask head by itself; tests/models/test_detector.py has it in the detector."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lga_jax.models.roi.crops import Levels, RoICrops
from lga_jax.models.roi.mask_head import MaskHead, mask_loss
from lga_jax.structs import DEVICE_AXIS, MaskOutputs, RoITargets, Targets
from tests.models.roi import test_stage

PYRAMID = [jnp.asarray(np.random.default_rng(side).normal(size=(2, side, side, 6)), jnp.float32) for side in (16, 8)]
BOXES = jnp.array([[[0.0, 0, 40, 40], [8, 8, 60, 40], [4, 20, 30, 60]]] * 2)
LABELS = jnp.array([[0, 2, 1], [1, 1, 0]])
ALIGN = dict(crop_size=3, sampling_ratio=1, aligned=True)


def head(**changes):
    fields = dict(num_convs=0, channels=6, norm="none", roi_align=ALIGN, strides=(4, 8), num_slots=2, num_classes=3)
    return MaskHead(**fields | changes)


def initial(module):
    """Initial variables, whose last layer and biases have values of ordinary size."""
    variables = module.init(jax.random.key(0), PYRAMID, BOXES, LABELS, False)
    leaves, structure = jax.tree.flatten(variables["params"])
    random = np.random.default_rng(0)
    values = [jnp.asarray(random.normal(0, 0.5, leaf.shape), jnp.float32) for leaf in leaves]
    return variables | {"params": jax.tree.unflatten(structure, values)}


def test_each_box_gets_the_mask_of_its_class():
    """Against the masks of all classes, computed by the operations of XLA."""
    variables = initial(head())
    found = head().apply(variables, PYRAMID, BOXES, LABELS, False)
    crops = RoICrops(Levels(PYRAMID), BOXES, (4, 8), ALIGN)("pyramid").reshape(6, 3, 3, 6)
    deconv, classes = variables["params"]["deconv"], variables["params"]["classes"]
    kernel = deconv["kernel"][::-1, ::-1]  # conv_transpose correlates
    up = jax.lax.conv_transpose(crops, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    every = jax.nn.relu(up + deconv["bias"]) @ classes["kernel"][0, 0] + classes["bias"]
    wanted = np.stack([every[row, ..., label] for row, label in enumerate(LABELS.reshape(-1))])
    assert found.shape == (2, 3, 6, 6)
    np.testing.assert_allclose(found.reshape(6, 6, 6), wanted, atol=1e-4)


def samples(labels):
    """Outputs of a stage with three RoIs in each of two images; the first slots are positive."""
    labels = jnp.array(labels)
    targets = RoITargets(labels, BOXES, jnp.array([[1, 0, 0], [0, 0, 0]]), jnp.ones((2, 3), bool))
    outputs = test_stage.outputs()
    return outputs._replace(rois=outputs.rois._replace(boxes=BOXES), targets=targets)


def truth(has_mask):
    masks = np.zeros((2, 2, 8, 8), np.uint8)
    masks[0, 1] = 255
    boxes = jnp.array([[[0.0, 0, 1, 1], [0, 0, 40, 40]], [[0, 0, 1, 1], [0, 0, 1, 1]]])
    return Targets(boxes, jnp.zeros((2, 2), int), jnp.ones((2, 2), bool), jnp.asarray(masks), jnp.array(has_mask))


def test_positive_rois_whose_object_has_a_mask_are_valid():
    found = head().apply(
        initial(head()),
        PYRAMID,
        samples([[2, 1, 3], [0, 3, 3]]),
        truth([[False, True], [True, True]]),
        method="of_samples",
    )
    assert found.logits.shape == found.targets.shape == (2, 2, 6, 6)  # the first two slots
    assert found.valid.tolist() == [[True, False], [True, False]]  # slot 0 of the first image has no mask
    np.testing.assert_allclose(found.targets[0, 0, 1:5, 1:5], 1.0)  # the RoI is the box of object 1
    np.testing.assert_allclose(found.targets[1, 0], 0.0)


def test_statistics_of_batch_norm_count_positive_rois_only():
    module = head(num_convs=1, norm="bn")
    variables = initial(module)

    def statistics(labels):
        def run(pyramid, stage, targets):
            return module.apply(variables, pyramid, stage, targets, method="of_samples", mutable=["batch_stats"])[1]

        given = PYRAMID, samples(labels), truth([[True, True], [True, True]])
        mapped = jax.vmap(run, axis_name=DEVICE_AXIS)(*jax.tree.map(lambda leaf: leaf[None], given))
        return mapped["batch_stats"]["conv1_norm"]["bn"]["mean"][0]

    one, other, none = (
        statistics(labels) for labels in ([[0, 3, 3], [0, 3, 3]], [[0, 0, 3], [0, 3, 3]], [[3] * 3] * 2)
    )
    alone = module.apply(
        variables,
        PYRAMID,
        BOXES[:, :1],
        LABELS[:, :1] * 0,
        False,
        capture_intermediates=lambda m, _: m.name == "conv1",
    )[1]["intermediates"]["conv1"]["__call__"][0]
    np.testing.assert_allclose(one, 0.1 * alone.mean(axis=(0, 1, 2)), atol=1e-5)
    assert not np.allclose(one, other, atol=1e-3)
    assert np.isfinite(none).all()


def test_the_loss_is_the_mean_over_valid_rois_then_over_images():
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(3, 2, 4, 4)).astype(np.float32), random.random((3, 2, 4, 4), np.float32)
    valid = np.array([[True, True], [False, True], [False, False]])
    each = optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=(2, 3))
    loss = mask_loss(MaskOutputs(*map(jnp.asarray, (logits, targets, valid))))
    assert float(loss) == pytest.approx(float(each[0].mean() + each[1, 1]) / 3, rel=1e-5)
