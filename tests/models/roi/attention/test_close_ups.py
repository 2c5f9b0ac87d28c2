"""Close-ups: what they read, what they add, and where gradients go."""

import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.models.roi.attention.lga import LGAHead
from lga_jax.models.roi.crops import Levels, RoICrops

SETTINGS = dict(num_masks=4, reduced_channels=8, hidden=16, mu="softmax", sigma="per_axis", fusion="sum")
SETTINGS |= dict(classifier="joint", close_up_points=3, close_up_channels=8, num_classes=3)
ALIGN = dict(crop_size=7, sampling_ratio=2, aligned=True)


def features(channels, seed):
    return [
        jax.random.normal(jax.random.key(seed + stride), (1, 64 // stride, 64 // stride, channels)) for stride in (4, 8)
    ]


def close_up_head(form=LGAHead):
    """A head with close-ups, the features of two RoIs, and initial parameters."""
    head = form(**SETTINGS, guide_level="close_up")
    boxes = jnp.array([[[8.0, 8.0, 48.0, 56.0], [0.0, 0.0, 250.0, 230.0]]])  # on the levels 0 and 1
    crop = RoICrops(Levels(features(16, 0), features(12, 10)[0]), boxes, (4, 8), ALIGN)
    return head, crop, head.init(jax.random.key(0), crop, True)


def projected(variables):
    """The parameters with a projection that is not zero."""
    project = variables["params"]["add_close_ups"]["project"]
    kernel = jax.random.normal(jax.random.key(5), project["kernel"].shape)
    return variables["params"] | {"add_close_ups": {"project": project | {"kernel": kernel}}}


def test_close_ups_change_nothing_at_the_start():
    head, crop, variables = close_up_head()
    plain = LGAHead(**SETTINGS, guide_level="pyramid")
    own = {name: value for name, value in variables["params"].items() if "close_ups" not in name}
    expected, found = plain.apply({"params": own}, crop, False), head.apply(variables, crop, False)
    jax.tree.map(np.testing.assert_array_equal, expected, found)
    moved = np.asarray(head.apply({"params": projected(variables)}, crop, False).fused - expected.fused)
    assert moved.any() and np.ptp(moved, axis=(2, 3)).max() < 1e-4  # the same in every cell


def test_the_first_step_moves_the_projection_of_close_ups():
    head, crop, variables = close_up_head()

    def loss(params):
        return jnp.square(head.apply({"params": params}, crop, False).fused).sum()

    assert jnp.count_nonzero(jax.grad(loss)(variables["params"])["add_close_ups"]["project"]["kernel"]) > 100


def bilinear(c2, places):
    """The features [.. c] of a map of stride 4 at places [.. (x, y)] in pixels; outside the nearest ones."""
    height, width = c2.shape[:2]
    found = np.empty((*places.shape[:-1], c2.shape[-1]))
    for index in np.ndindex(places.shape[:-1]):
        x, y = np.clip(places[index] / 4 - 0.5, 0, (width - 1, height - 1))
        left, top = min(int(x), width - 2), min(int(y), height - 2)
        rows = [(1 - x + left) * c2[top + i, left] + (x - left) * c2[top + i, left + 1] for i in (0, 1)]
        found[index] = (1 - y + top) * rows[0] + (y - top) * rows[1]
    return found


def test_a_close_up_reads_the_points_of_its_mask_on_the_finer_level():
    head, crop, variables = close_up_head()
    boxes, c2 = np.asarray(crop.boxes), np.asarray(features(12, 10)[0][0])
    gaussians = head.apply(variables, crop, False).gaussians
    found = head.bind(variables).close_ups(crop, gaussians)
    params = variables["params"]["close_ups"]
    steps = 1.5 * np.array([-2 / 3, 0.0, 2 / 3])
    for mask in range(4):
        centre, sigma = (np.asarray(value)[:, :, mask, None] for value in (gaussians.centres, gaussians.sigmas))
        grid = np.array([(x, y) for y in steps for x in steps])
        places = boxes[..., None, :2] + (centre + sigma * grid) / 7 * (boxes[..., None, 2:] - boxes[..., None, :2])
        read = bilinear(c2, places)
        reduced = jax.nn.relu(read @ params["reduce"]["kernel"] + params["reduce"]["bias"]).reshape(1, 2, -1)
        expected = jax.nn.relu(reduced @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        np.testing.assert_allclose(found[:, :, mask], expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_centres_and_sigmas_through_the_close_ups():
    head, crop, variables = close_up_head()

    def loss(params):
        return jnp.square(head.apply({"params": params}, crop, True).guide_logits).sum()

    gradient = jax.grad(loss)(variables["params"])
    assert np.count_nonzero(gradient["sigmas"]["bias"]) == 8
    assert np.count_nonzero(gradient["centres"]["stretch"]) == 8
    assert not gradient["add_close_ups"]["project"]["kernel"].any()  # the fused crop is not in this loss


def test_the_guide_classifies_the_close_ups_of_all_masks_together():
    head, crop, variables = close_up_head()
    attention, params = head.apply(variables, crop, True), variables["params"]["guide_classes"]
    details = head.bind(variables).close_ups(crop, attention.gaussians).reshape(1, 2, 1, -1)
    np.testing.assert_allclose(
        attention.guide_logits, details @ params["kernel"] + params["bias"], rtol=1e-4, atol=1e-5
    )


def test_the_guide_reads_no_crops_of_the_first_stage():
    head, crop, variables = close_up_head()
    asked = []

    class Recorded(RoICrops):
        def __call__(self, level):
            asked.append(level)
            return super().__call__(level)

    head.apply(variables, Recorded(crop.levels, crop.boxes, crop.strides, crop.roi_align), True)
    assert asked == ["pyramid"]
