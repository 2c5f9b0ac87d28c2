"""Section III-B of the paper, sentence by sentence; docs/paper_map.md points here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.roi.attention.lga import LGAHead, MaskedConcat, masked_averages

NUM_CLASSES = 3
SETTINGS = dict(num_masks=4, reduced_channels=8, hidden=16, sigma="per_axis", fusion="sum", num_classes=3)
PAPER = dict(mu="dense", classifier="shared", guide_level="pyramid")  # to the letter
SETTINGS |= dict(mu="softmax", classifier="joint", guide_level="c2", close_up_points=6, close_up_channels=8)
CROPS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7, 7, 12)), jnp.float32)


def head_and_params(**changes):
    head = LGAHead(**SETTINGS | changes)
    return head, head.init(jax.random.key(0), lambda level: CROPS, True)


def attend(head, variables, crops=CROPS):
    """As in inference."""
    return head.apply(variables, lambda level: crops, False)


def excited(variables, factor=100.0):
    """Parameters whose Gaussians depend strongly on the crop; the initial ones hardly do."""
    params = dict(variables["params"])
    for name in ("centres", "sigmas"):
        params[name] = jax.tree.map(lambda leaf: leaf * factor if leaf.ndim == 2 else leaf, params[name])
    return {"params": params}


@pytest.mark.parametrize("mu", ["dense", "softmax"])
def test_centres_lie_on_the_crop_and_sigmas_are_at_least_one(mu):
    head, variables = head_and_params(mu=mu)
    gaussians = attend(head, excited(variables, 1e4)).gaussians
    assert gaussians.centres.shape == gaussians.sigmas.shape == (5, 4, 2)
    assert jnp.all((gaussians.centres >= 0.0) & (gaussians.centres <= 7.0))
    assert jnp.all(gaussians.sigmas >= 1.0)
    assert jnp.any(gaussians.sigmas == 1.0) and jnp.any(gaussians.sigmas > 1.0)
    assert float(gaussians.centres.std()) > 1.0


@pytest.mark.parametrize("mu", ["dense", "softmax"])
def test_equation_one_from_the_parameters(mu):
    head, variables = head_and_params(mu=mu)
    variables = excited(variables)
    params = jax.device_get(variables["params"])

    def dense(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    reduced = np.maximum(dense(np.asarray(CROPS), "reduce"), 0)
    hidden = np.maximum(dense(reduced.reshape(5, -1), "hidden_layer"), 0)
    if mu == "dense":
        places = dense(hidden, "centres").reshape(5, 4, 2)
    else:
        heat = reduced @ params["centres"]["heat"]["kernel"] + params["centres"]["places"]
        share = np.exp(heat) / np.exp(heat).sum(axis=(1, 2), keepdims=True)
        cells = np.linspace(-6, 6, 7) / 7
        x, y = ((share * weights[..., None]).sum(axis=(1, 2)) for weights in np.meshgrid(cells, cells))
        places = params["centres"]["stretch"] * np.stack([x, y], axis=-1)
    centres = 3.5 + 3.5 * np.tanh(places)
    sigmas = np.maximum(dense(hidden, "sigmas"), 0).reshape(5, 4, 2) + 1
    gaussians = attend(head, variables).gaussians
    np.testing.assert_allclose(gaussians.centres, centres, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gaussians.sigmas, sigmas, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mu", ["dense", "softmax"])
@pytest.mark.parametrize("num_masks", [1, 2, 4, 8])
def test_masks_begin_apart(num_masks, mu):
    head, variables = head_and_params(num_masks=num_masks, mu=mu)
    centres = np.asarray(attend(head, variables).gaussians.centres)[0]
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)[~np.eye(num_masks, dtype=bool)]
    assert distances.min(initial=np.inf) > 0.8
    assert centres.mean(axis=0).tolist() == pytest.approx([3.5, 3.5], abs=0.1)


def test_a_heat_map_with_one_hot_cell_puts_the_centre_into_that_cell():
    head, variables = head_and_params(num_masks=1)
    variables["params"]["centres"]["places"] = jnp.full((7, 7, 1), -50.0).at[1, 5, 0].set(50.0)
    for x, y in attend(head, variables).gaussians.centres[:, 0]:
        assert 5 < x < 6 and 1 < y < 2  # row 1, column 5


def test_a_mask_follows_its_pattern_through_the_crop():
    """What a mask with a heat map responds to draws it along, wherever it is: no layer has to learn places."""
    head, variables = head_and_params(num_masks=1)
    params = variables["params"]
    params["centres"]["heat"]["kernel"] = jnp.full((8, 1), 50.0)  # a mask that looks for the greatest response
    params["centres"]["places"] = jnp.zeros((7, 7, 1))
    cells = jnp.array([[1, 1], [3, 3], [5, 2]])
    crops = jnp.zeros((3, 7, 7, 12)).at[jnp.arange(3), cells[:, 1], cells[:, 0]].set(CROPS[0, 0, 0] * 10)
    centres = attend(head, variables, crops).gaussians.centres[:, 0]
    assert jnp.all(jnp.abs(centres - (cells + 0.5)) < 0.6)


def test_isotropic_sigma_is_the_same_along_both_axes():
    head, variables = head_and_params(sigma="isotropic")
    sigmas = attend(head, excited(variables)).gaussians.sigmas
    np.testing.assert_array_equal(sigmas[..., 0], sigmas[..., 1])


def test_sum_fusion_adds_the_mean_of_the_masked_features():
    head, variables = head_and_params()
    attention = attend(head, variables)
    masked = CROPS[:, None] * attention.gaussians.masks[..., None]
    np.testing.assert_allclose(attention.fused, CROPS + masked.mean(axis=1), rtol=1e-5, atol=1e-5)


def test_concat_fusion_is_a_convolution_over_the_concatenation():
    masks = jax.random.uniform(jax.random.key(2), (5, 4, 7, 7))
    fuse = MaskedConcat()
    variables = fuse.init(jax.random.key(0), CROPS, masks)
    masked = CROPS[:, None] * masks[..., None]
    stacked = jnp.concatenate([CROPS, *jnp.moveaxis(masked, 1, 0)], axis=-1)
    kernel = variables["params"]["kernel"]
    wanted = jax.nn.relu(stacked @ kernel.reshape(-1, kernel.shape[-1]))
    np.testing.assert_allclose(fuse.apply(variables, CROPS, masks), wanted, rtol=1e-4, atol=1e-5)


def pooled_by(mask):
    return (CROPS * mask[..., None]).sum(axis=(1, 2)) / mask[..., None].sum(axis=(1, 2))


@pytest.mark.parametrize("classifier", ["shared", "joint"])
def test_guide_classifies_the_masked_features(classifier):
    """Each mask separately, or all masks together."""
    head, variables = head_and_params(classifier=classifier)
    masks = jax.random.uniform(jax.random.key(2), (5, 4, 7, 7))
    pooled = np.stack([pooled_by(masks[:, mask]) for mask in range(4)], axis=1)
    if classifier == "joint":
        pooled = pooled.reshape(5, 1, -1)
    params = variables["params"]["guide_classes"]
    logits = head.apply(variables, CROPS, masks, method="guide")
    assert logits.shape == (5, 4 if classifier == "shared" else 1, NUM_CLASSES + 1)
    np.testing.assert_allclose(logits, pooled @ params["kernel"] + params["bias"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
def test_masked_averages_have_the_gradients_that_jax_derives(dtype, tolerance):
    def plain(crops, masks):
        weight = masks[..., None]
        return (crops[:, None] * weight).sum(axis=(2, 3)) / weight.sum(axis=(2, 3))

    crops = jnp.abs(CROPS).astype(dtype)  # as after a ReLU: a mean far from zero
    masks = jax.random.uniform(jax.random.key(2), (5, 4, 7, 7), minval=0.1)
    wanted, back = jax.vjp(plain, crops.astype(jnp.float32), masks)
    found, back_of_products = jax.vjp(masked_averages, crops, masks)
    assert found.dtype == jnp.float32
    upstream = jax.random.normal(jax.random.key(3), wanted.shape)
    gradients = back_of_products(upstream)
    assert gradients[0].dtype == dtype and gradients[1].dtype == jnp.float32
    for mine, plains in zip((found, *gradients), (wanted, *back(upstream)), strict=True):
        scale = float(jnp.abs(plains).max())
        np.testing.assert_allclose(mine.astype(jnp.float32), plains, atol=tolerance * scale)


def of_mu(params):
    """What places each mask: [4 masks, ...]."""
    centres = params["centres"]
    return centres["bias"].reshape(4, 2) if "bias" in centres else jnp.moveaxis(centres["places"], -1, 0)


@pytest.mark.parametrize("form", [{}, PAPER])
def test_gradient_of_the_guide_reaches_mu_and_sigma_of_every_mask(form):
    head, variables = head_and_params(**form)

    def guide_loss(params):
        masks = attend(head, {"params": params}).gaussians.masks
        return jnp.square(head.apply({"params": params}, CROPS, masks, method="guide")).sum()

    gradient = jax.grad(guide_loss)(variables["params"])
    assert jnp.all(of_mu(gradient) != 0.0) and jnp.all(gradient["sigmas"]["bias"] != 0.0)
    assert jnp.any(gradient["reduce"]["kernel"] != 0.0)


@pytest.mark.parametrize("guide_level", ["pyramid", "c2"])
def test_the_guide_reads_crops_of_its_level_and_only_in_training(guide_level):
    head, variables = head_and_params(guide_level=guide_level)
    asked = []

    def crop(level):
        asked.append(level)
        return CROPS if level == "pyramid" else 2.0 * CROPS

    assert head.apply(variables, crop, False).guide_logits is None
    assert asked == ["pyramid"]
    attention = head.apply(variables, crop, True)
    assert asked[1:] == ["pyramid", *(["c2"] if guide_level == "c2" else [])]
    seen = CROPS if guide_level == "pyramid" else 2.0 * CROPS
    wanted = head.apply(variables, seen, attention.gaussians.masks, method="guide")
    np.testing.assert_array_equal(attention.guide_logits, wanted)


@pytest.mark.parametrize("form", [{}, PAPER])
def test_detection_head_reaches_mu_and_sigma_too(form):
    head, variables = head_and_params(**form)
    loss = lambda params: jnp.square(attend(head, {"params": params}).fused).sum()  # noqa: E731
    gradient = jax.grad(loss)(variables["params"])
    assert jnp.all(of_mu(gradient) != 0.0) and jnp.all(gradient["sigmas"]["bias"] != 0.0)
    assert jnp.all(gradient["guide_classes"]["kernel"] == 0.0)
