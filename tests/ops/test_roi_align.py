import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lga_jax.ops.roi_align import multilevel_roi_align, pyramid_level
from tests.ops.platforms import use_forms_of
from tests.reference import roi_align as reference

STRIDES = (4, 8)
IMAGE_HW = (320, 256)  # large enough for both levels to be used
OPTIONS = dict(strides=STRIDES, crop_size=3, sampling_ratio=2, aligned=True)
BOTH_ALIGNMENTS = pytest.mark.parametrize("aligned", [True, False])
BOXES = np.array(
    [
        [20.0, 30.0, 61.0, 83.0],  # inside, fine level
        [3.3, 5.1, 250.7, 310.9],  # nearly everything, coarse level
        [-40.0, -30.0, 40.0, 50.0],  # over the top left corner
        [200.0, 280.0, 300.0, 400.0],  # over the bottom right corner
        [-90.0, -90.0, -50.0, -40.0],  # outside
        [400.0, 10.0, 480.0, 90.0],  # outside
        [100.0, 100.0, 100.0, 100.0],  # a point
        [100.0, 50.0, 100.0, 90.0],  # a line
        [0.0, 0.0, 256.0, 320.0],  # the image
        [253.0, 317.0, 256.0, 320.0],  # less than a cell, in the last corner
        [0.0, 0.0, 0.0, 0.0],  # an empty slot
        [-500.0, -500.0, 900.0, 900.0],  # far beyond the image
    ],
    np.float32,
)


def pyramid(seed: int = 0, channels: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(IMAGE_HW[0] // s, IMAGE_HW[1] // s, channels)).astype(np.float32) for s in STRIDES]


def ramps(aligned: bool) -> list[np.ndarray]:
    """Channels x and y: each cell holds the pixel coordinates of the place it stands for."""
    shift = 0.5 if aligned else 0.0
    maps = []
    for stride in STRIDES:
        y, x = np.mgrid[: IMAGE_HW[0] // stride, : IMAGE_HW[1] // stride].astype(np.float32)
        maps.append(np.stack([(x + shift) * stride, (y + shift) * stride], axis=-1))
    return maps


# Pictures.


def test_cells_of_a_box_by_eye():
    #  0 1 | 2 3      Two cells of two points each along both axes; points fall on the centres of the features,
    #  4 5 | 6 7      so that each cell is the mean of four numbers.
    #  ----+----
    #  8 9 | ...
    feature = jnp.arange(16.0).reshape(4, 4, 1)
    crop = multilevel_roi_align(
        [feature], jnp.array([[0.0, 0.0, 4.0, 4.0]]), strides=(1,), crop_size=2, sampling_ratio=2, aligned=True
    )
    assert crop[0, :, :, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_levels_by_eye():
    sides = jnp.array([0.0, 1.0, 111.0, 112.0, 223.0, 224.0, 447.0, 448.0, 9999.0])
    boxes = jnp.stack([jnp.zeros(9), jnp.zeros(9), sides, sides], axis=1)
    assert pyramid_level(boxes, (4, 8, 16, 32)).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert pyramid_level(boxes, (8, 16)).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_the_level_rule_has_a_margin_of_a_millionth_of_a_level():
    """A rounding error below 112, 224 or 448 pixels does not change the level; ten times the margin does."""
    for number, side in enumerate((112.0, 224.0, 448.0)):
        sides = side * (1 - np.array([4e-7, 4e-6]))  # 0.6 and 6 millionths of a level
        boxes = jnp.asarray(np.stack([0 * sides, 0 * sides, sides, sides], axis=1), jnp.float32)
        assert pyramid_level(boxes, (4, 8, 16, 32)).tolist() == [number + 1, number]


# Oracle.


@BOTH_ALIGNMENTS
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2])
def test_equals_the_reference(aligned, sampling_ratio):
    options = {**OPTIONS, "aligned": aligned, "sampling_ratio": sampling_ratio}
    features = pyramid()
    expected = reference.multilevel_roi_align(features, BOXES, **options)
    np.testing.assert_allclose(multilevel_roi_align(features, BOXES, **options), expected, atol=1e-4)
    assert not expected[4:6].any()
    assert expected[[0, 1, 2, 3, 8]].any(axis=(1, 2, 3)).all()


def test_images_side_by_side_may_need_unlike_many_points():
    features, options = pyramid(), {**OPTIONS, "sampling_ratio": 0}
    boxes = BOXES.reshape(3, 4, 4)
    stacked = jax.vmap(lambda b: multilevel_roi_align(features, b, **options))(boxes)
    np.testing.assert_allclose(
        stacked.reshape(-1, 3, 3, 5), reference.multilevel_roi_align(features, BOXES, **options), atol=1e-4
    )


def test_jit_changes_nothing():
    features, boxes, options = (
        list(map(jnp.asarray, pyramid())),
        jnp.asarray(BOXES[:3]),
        {**OPTIONS, "sampling_ratio": 1},
    )
    with jax.disable_jit():
        eager = multilevel_roi_align(features, boxes, **options)
    np.testing.assert_allclose(multilevel_roi_align(features, boxes, **options), eager, atol=1e-5)


# Laws.


@BOTH_ALIGNMENTS
def test_a_linear_map_is_read_exactly_at_the_centres_of_the_cells(aligned):
    boxes = np.array([[20.0, 30.0, 61.0, 83.0], [11.0, 21.0, 241.0, 291.0]], np.float32)
    crops = multilevel_roi_align(ramps(aligned), boxes, **{**OPTIONS, "aligned": aligned})
    cells = (np.arange(3) + 0.5) / 3
    for crop, (x1, y1, x2, y2) in zip(crops, boxes, strict=True):
        np.testing.assert_allclose(crop[:, :, 0], np.tile(x1 + cells * (x2 - x1), (3, 1)), atol=1e-3)
        np.testing.assert_allclose(crop[:, :, 1], np.tile((y1 + cells * (y2 - y1))[:, None], (1, 3)), atol=1e-3)


def test_moving_the_features_moves_the_crops():
    features, box = pyramid(), np.array([[40.0, 48.0, 100.0, 90.0]], np.float32)
    moved = [np.roll(feature, 8 // stride, axis=1) for feature, stride in zip(features, STRIDES, strict=True)]
    np.testing.assert_allclose(
        multilevel_roi_align(moved, box + np.array([8, 0, 8, 0], np.float32), **OPTIONS),
        multilevel_roi_align(features, box, **OPTIONS),
        atol=1e-4,
    )


def test_boxes_may_be_permuted():
    order = np.random.default_rng(1).permutation(len(BOXES))
    np.testing.assert_allclose(
        multilevel_roi_align(pyramid(), BOXES[order], **OPTIONS),
        multilevel_roi_align(pyramid(), BOXES, **OPTIONS)[order],
        atol=1e-6,
    )


def test_the_crop_is_linear_in_the_features():
    one, other = pyramid(1), pyramid(2)
    mixed = [2 * a - 3 * b for a, b in zip(one, other, strict=True)]
    expected = 2 * multilevel_roi_align(one, BOXES, **OPTIONS) - 3 * multilevel_roi_align(other, BOXES, **OPTIONS)
    np.testing.assert_allclose(multilevel_roi_align(mixed, BOXES, **OPTIONS), expected, atol=1e-4)


# Edges and gradients. RoIAlign has a backward pass of its own, so that these say most.


def sum_of_crops(features, boxes, weights):
    return (multilevel_roi_align(features, boxes, **OPTIONS) * weights).sum()


gradient = jax.jit(jax.grad(sum_of_crops))


def weights(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(BOXES), 3, 3, 5)).astype(np.float32)


def test_the_backward_pass_is_the_transpose_of_the_forward_pass():
    features, directions = pyramid(3), pyramid(4)
    grads = gradient(features, BOXES, weights())
    along = sum(float((grad * direction).sum()) for grad, direction in zip(grads, directions, strict=True))
    assert along == pytest.approx(float(sum_of_crops(directions, BOXES, weights())), rel=1e-4)


@BOTH_ALIGNMENTS
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_gradients_are_the_derivatives(aligned, sampling_ratio):
    rng = np.random.default_rng(6)
    features = [rng.normal(size=(4, 3, 2)).astype(np.float32), rng.normal(size=(2, 2, 2)).astype(np.float32)]
    boxes = np.array([[1.0, 2.0, 9.0, 13.0], [-5.0, -5.0, 200.0, 180.0], [3.0, 3.0, 3.0, 3.0]], np.float32)
    options = {**OPTIONS, "aligned": aligned, "sampling_ratio": sampling_ratio}
    check_grads(
        jax.jit(lambda f: multilevel_roi_align(f, boxes, **options)),
        (features,),
        order=1,
        modes=["rev"],
        atol=2e-2,
        rtol=2e-2,
    )


@pytest.mark.parametrize(
    ("centre", "weight"), [(-4.01, 0.0), (-4.0, 1.0), (0.0, 1.0), (64.0, 1.0), (64.01, 0.0)], ids=str
)
def test_points_up_to_one_cell_outside_count(centre, weight):
    """One cell, one point in its middle, on 16 cells of 4 pixels that all hold 1."""
    options = OPTIONS | dict(crop_size=1, sampling_ratio=1, aligned=False)
    features = [jnp.ones((16, 16, 1)), jnp.ones((8, 8, 1))]
    for box in ([centre - 8, 20.0, centre + 8, 36.0], [20.0, centre - 8, 36.0, centre + 8]):
        crop = multilevel_roi_align(features, jnp.array([box]), **options)
        assert crop.item() == weight


def test_no_gradient_outside_the_box_nor_on_another_level():
    fine, coarse = gradient(pyramid(), np.tile(BOXES[:1], (len(BOXES), 1)), weights())
    x1, y1, x2, y2 = BOXES[0] / STRIDES[0] - 0.5
    rows, columns = np.nonzero(np.any(np.asarray(fine) != 0, axis=-1))
    assert np.floor(y1) <= rows.min() < rows.max() <= np.ceil(y2)
    assert np.floor(x1) <= columns.min() < columns.max() <= np.ceil(x2)
    assert not coarse.any()


def test_boxes_outside_send_no_gradient_and_odd_boxes_a_finite_one():
    grads = gradient(pyramid(), np.tile(BOXES[4:5], (len(BOXES), 1)), weights())
    assert not any(grad.any() for grad in grads)
    grads = gradient(pyramid(), BOXES, weights())
    assert all(bool(jnp.isfinite(grad).all()) for grad in grads)


def test_boxes_get_no_gradient():
    grad = jax.grad(sum_of_crops, argnums=1)(pyramid(), jnp.asarray(BOXES), weights())
    assert not grad.any()


def crops_and_gradients(features, boxes, options):
    """Of two images, as the detector maps over them, in the forms that are chosen while it is traced."""
    align = jax.vmap(lambda f, b: multilevel_roi_align.__wrapped__(f, b, **options))
    cotangent = jnp.stack([weights(1), weights(2)])
    crops, pull = jax.jit(lambda f: jax.vjp(lambda f: align(f, boxes), f))(features)
    return crops, jax.jit(pull)(cotangent)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_the_forms_of_other_platforms_are_equal(sampling_ratio, monkeypatch):
    options = OPTIONS | dict(sampling_ratio=sampling_ratio)
    features = [jnp.stack(levels) for levels in zip(pyramid(1), pyramid(2), strict=True)]
    boxes = jnp.stack([BOXES, BOXES[::-1]])
    expected = crops_and_gradients(features, boxes, options)
    for platform in ("cuda", "tpu"):
        use_forms_of(platform, monkeypatch)
        found = crops_and_gradients(features, boxes, options)
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), found, expected)


def test_images_may_share_boxes_in_the_forms_of_other_platforms(monkeypatch):
    features = [jnp.stack(levels) for levels in zip(pyramid(1), pyramid(2), strict=True)]
    use_forms_of("cuda", monkeypatch)
    crops = jax.vmap(lambda f: multilevel_roi_align.__wrapped__(f, jnp.asarray(BOXES), **OPTIONS))(features)
    alone = [multilevel_roi_align(pyramid(seed), BOXES, **OPTIONS) for seed in (1, 2)]
    np.testing.assert_allclose(crops, np.stack(alone), atol=1e-5)


def test_bfloat16_features_are_summed_in_float32():
    features = [jnp.asarray(feature, jnp.bfloat16) for feature in pyramid()]
    crops = multilevel_roi_align(features, BOXES, **OPTIONS)
    assert crops.dtype == jnp.bfloat16
    exact = multilevel_roi_align([f.astype(jnp.float32) for f in features], BOXES, **OPTIONS)
    np.testing.assert_allclose(crops.astype(jnp.float32), exact, rtol=2**-7, atol=2**-9)
    assert jax.grad(sum_of_crops)(features, BOXES, weights().astype(jnp.bfloat16))[0].dtype == jnp.bfloat16
