import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from lga_jax.ops.point_sampling import sample_points
from tests.ops.test_roi_align import IMAGE_HW, STRIDES, pyramid, ramps
from tests.reference.roi_align import bilinear

LEVEL = np.array([0, 1, 1], np.int32)
POINTS = np.random.default_rng(1).uniform(0, 1, (3, 5, 2)).astype(np.float32) * (IMAGE_HW[1], IMAGE_HW[0])


def sample(features, points, level=LEVEL):
    return sample_points([jnp.asarray(f) for f in features], jnp.asarray(points), jnp.asarray(level), strides=STRIDES)


def test_points_between_four_cells_by_eye():
    feature = jnp.arange(16.0).reshape(4, 4, 1)  # rows 0 1 2 3, 4 5 6 7, ...; cell (0, 0) has its centre at (0.5, 0.5)
    points = jnp.array([[[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [3.5, 3.5], [0.0, -9.0], [9.0, 9.0]]])
    found = sample_points([feature], points, jnp.zeros(1, jnp.int32), strides=(1,))
    assert found[0, :, 0].tolist() == [0.0, 0.5, 2.5, 15.0, 0.0, 15.0]


def test_equals_the_oracle():
    features = pyramid()
    wanted = [
        [bilinear(features[level], y / STRIDES[level] - 0.5, x / STRIDES[level] - 0.5) for x, y in points]
        for level, points in zip(LEVEL, POINTS, strict=True)
    ]
    np.testing.assert_allclose(sample(features, POINTS), wanted, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(sample)([f[None] for f in features], POINTS[None])[0], wanted, atol=1e-5)


def test_a_ramp_gives_the_place_itself():
    inside = np.clip(POINTS, 8.0, np.array(IMAGE_HW[::-1]) - 8.0)
    np.testing.assert_allclose(sample(ramps(aligned=True), inside), inside, rtol=1e-5)


def test_gradients_of_features_and_points():
    features = [f[:, :, :2] for f in pyramid()]
    points = np.floor(POINTS / 8) * 8 + np.random.default_rng(2).uniform(6.5, 7.5, POINTS.shape)  # away from the kinks
    check_grads(
        sample, ([jnp.asarray(f) for f in features], jnp.asarray(points, jnp.float32)), order=1, modes=["rev"], eps=0.2
    )


def test_points_outside_and_single_cells_have_finite_values_and_no_gradient():
    small = [np.ones((1, 1, 2), np.float32), np.ones((1, 1, 2), np.float32)]
    outside = np.float32([[[-50.0, 33.0], [1e6, 1e6]]] * 3)
    value, gradient = jax.value_and_grad(lambda points: sample(small, points).sum())(jnp.asarray(outside))
    assert value == 12.0 and not gradient.any()
    gradient = jax.grad(lambda points: sample(pyramid(), points)[:, 0].sum())(jnp.asarray(outside))
    assert not gradient[:, 0, 0].any() and gradient[:, 0, 1].all() and not gradient[:, 1].any()


def test_sums_of_the_gradient_are_float32():
    features = [jnp.zeros((1, 1, 1), jnp.bfloat16)] * 2
    gradient = jax.grad(lambda f: sample(f, np.zeros((3, 300, 2), np.float32)).astype(jnp.float32).sum())(features)
    assert [float(g.sum()) for g in gradient] == [300.0, 600.0]  # bfloat16 sums of ones end at 256
