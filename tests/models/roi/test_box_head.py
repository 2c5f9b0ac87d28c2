import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.roi.box_head import BoxHead

CROPS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 7, 7, 8)), jnp.float32)
PLAIN = dict(
    num_convs=0, num_fcs=2, hidden=16, norm="none", dense_init="detectron2", num_classes=3, class_agnostic=False
)


def test_shapes_and_names_of_the_two_arrangements():
    (logits, deltas), variables = BoxHead(**PLAIN).init_with_output(jax.random.key(0), CROPS, train=False)
    assert (logits.shape, deltas.shape) == ((2, 5, 4), (2, 5, 3, 4))
    assert set(variables["params"]) == {"fc1", "fc2", "classes", "deltas"}

    head = BoxHead(**PLAIN | dict(num_convs=4, num_fcs=1, norm="frozen_bn"))
    (logits, deltas), variables = head.init_with_output(jax.random.key(0), CROPS, train=False)
    assert (logits.shape, deltas.shape) == ((2, 5, 4), (2, 5, 3, 4))
    assert set(variables["params"]) == {*(f"conv{i}" for i in range(1, 5)), "fc1", "classes", "deltas"}
    assert set(variables["batch_stats"]) == {f"conv{i}_norm" for i in range(1, 5)}
    assert "bias" not in variables["params"]["conv1"]


def test_a_roi_is_judged_by_itself():
    head = BoxHead(**PLAIN | dict(num_convs=1))
    variables = head.init(jax.random.key(0), CROPS, train=False)
    logits, _ = head.apply(variables, CROPS, train=False)
    alone, _ = head.apply(variables, CROPS[1:, 3:4], train=False)
    np.testing.assert_allclose(alone[0, 0], logits[1, 3], atol=1e-5)


@pytest.mark.parametrize(
    ("dense_init", "kernel_std", "bias_std"),
    [
        # uniform of variance 1 / fan_in, and normal(.01), normal(.001); biases zero
        ("detectron2", {"fc1": 392**-0.5, "classes": 0.01, "deltas": 0.001}, 0.0),
        # torch.nn.Linear: kernel and bias uniform within 1 / sqrt(fan_in)
        ("torchvision", {"fc1": (3 * 392) ** -0.5, "classes": (3 * 512) ** -0.5, "deltas": (3 * 512) ** -0.5}, None),
    ],
)
def test_initial_values(dense_init, kernel_std, bias_std):
    head = BoxHead(**PLAIN | dict(hidden=512, num_classes=99, dense_init=dense_init))
    params = head.init(jax.random.key(0), CROPS[:1, :1], train=False)["params"]
    for name, expected in kernel_std.items():
        assert float(params[name]["kernel"].std()) == pytest.approx(expected, rel=0.05), name
        bound = expected if bias_std is None else bias_std
        assert float(params[name]["bias"].std()) == pytest.approx(bound, rel=0.15), name


def test_a_class_agnostic_head_has_one_box_for_all_classes():
    (logits, deltas), _ = BoxHead(**PLAIN | dict(class_agnostic=True)).init_with_output(jax.random.key(0), CROPS, False)
    assert logits.shape[-1] == 4 and deltas.shape == (*CROPS.shape[:2], 1, 4)
