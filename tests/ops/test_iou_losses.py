"""IoU losses: pairs computed by hand, laws, empty boxes, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lga_jax.ops.iou_losses import iou_loss

KINDS = ["giou", "diou", "ciou"]
BOX = jnp.array([0.0, 0, 2, 2])


@pytest.mark.parametrize(
    ("box", "wanted", "giou", "diou", "ciou"),
    [
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 - 1 / 7 + 2 / 9, 1 - 1 / 7 + 2 / 18, 1 - 1 / 7 + 2 / 18),
        # apart: IoU 0, the box around both is 10 x 2, the centres are 8 apart
        ((0, 0, 2, 2), (8, 0, 10, 2), 1 + 12 / 20, 1 + 64 / 104, 1 + 64 / 104),
        # other aspect: IoU 1/3, v = 4/pi^2 (atan 2 - atan 1/2)^2 = 0.16783, alpha = v / (2/3 + v) = 0.20112
        ((0, 0, 4, 2), (0, 0, 2, 4), 2 / 3 + 4 / 16, 2 / 3 + 2 / 32, 2 / 3 + 2 / 32 + 0.20112 * 0.16783),
    ],
)
def test_by_hand(box, wanted, giou, diou, ciou):
    pair = jnp.array(box, jnp.float32), jnp.array(wanted, jnp.float32)
    np.testing.assert_allclose([iou_loss(*pair, kind) for kind in KINDS], [giou, diou, ciou], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_boxes_have_no_loss_and_scale_does_not_matter(kind):
    np.testing.assert_allclose(iou_loss(BOX, BOX, kind), 0.0, atol=1e-6)
    other = jnp.array([0.5, 0.2, 3, 1.7])
    np.testing.assert_allclose(iou_loss(BOX, other, kind), iou_loss(100 * BOX, 100 * other, kind), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    """Overlapping, one inside the other, and apart."""
    boxes = jnp.array([[0.0, 0, 20, 30], [5, 6, 11, 9], [50, 50, 58, 70]])
    wanted = jnp.array([[3.0, 4, 26, 31], [2, 2, 20, 18], [10, 20, 24, 31]])
    loss = jax.jit(lambda b: iou_loss(b, wanted, kind).sum())
    if kind != "ciou":  # its gradient leaves out alpha on purpose, see below
        check_grads(loss, (boxes,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-1)
    gradient = jax.grad(loss)(boxes)
    assert (jnp.abs(gradient).max(axis=-1) > 1e-5).all()  # also apart
    moved = boxes - 0.5 / jnp.abs(gradient).max() * gradient
    assert (iou_loss(moved, wanted, kind) < iou_loss(boxes, wanted, kind)).all()


def test_no_gradient_of_ciou_flows_through_alpha():
    """So the gradient is that of DIoU plus alpha times that of v."""
    box, wanted = jnp.array([0.0, 0, 4, 2]), jnp.array([0.0, 0, 2, 4])

    def v(b):
        angle = lambda c: jnp.arctan((c[2] - c[0]) / (c[3] - c[1]))  # noqa: E731
        return 4 / np.pi**2 * (angle(wanted) - angle(b)) ** 2

    alpha = v(box) / (2 / 3 + v(box))
    expected = jax.grad(lambda b: iou_loss(b, wanted, "diou"))(box) + alpha * jax.grad(v)(box)
    np.testing.assert_allclose(jax.grad(lambda b: iou_loss(b, wanted, "ciou"))(box), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("box", [(0, 0, 0, 0), (5, 5, 5, 9), (9, 9, 5, 5)])
def test_empty_and_swapped_boxes_are_finite(kind, box):
    box = jnp.array(box, jnp.float32)
    for pair in ((box, BOX), (BOX, box), (box, box)):
        value, gradient = jax.value_and_grad(lambda b, other=pair[1]: iou_loss(b, other, kind))(pair[0])
        assert np.isfinite(value) and np.isfinite(gradient).all()
