"""The study's forms of attention: what they share, where the guide's gradient goes, where the masks start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import challenge
from lga_jax.models.build import init_variables
from lga_jax.models.roi.attention.lga import LGAHead, masked_averages
from lga_jax.recipe import check
from lga_jax.structs import Batch, Gaussians, Outputs, StageOutputs, Targets
from studies.attention.rows import ROWS, Row, digest, resolve
from studies.attention.study import parse
from studies.attention.variants import StudyHead, average_to, extra_losses, overlap
from tests.models.roi.attention.test_close_ups import close_up_head, projected
from tests.studies.attention.tiny import detector_of

SIZES = dict(num_masks=4, reduced_channels=8, hidden=16, mu="dense", sigma="per_axis", fusion="sum")
SIZES |= dict(classifier="shared", guide_level="pyramid", close_up_points=3, close_up_channels=8)


def make_head(**fields):
    return StudyHead(**(SIZES | fields), num_classes=3)


def crops(size=7):
    return jax.random.normal(jax.random.key(1), (2, 3, size, size, 16))


def initialised(head, x):
    """Parameters, and a function of them and of crops that gives what the head gives in training."""

    def apply(variables, x):
        return head.apply(variables, lambda level: x, True)

    return head.init(jax.random.key(0), lambda level: x, True), apply


@functools.cache
def shapes(name):
    """Outputs and parameters of a row's detector in training."""
    detector = detector_of(name)
    image, content = jnp.zeros((1, 64, 64, 3), jnp.uint8), jnp.full((1, 2), 64.0)
    targets = Targets(jnp.zeros((1, 2, 4)), jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 2), bool))
    outputs, variables = jax.eval_shape(
        lambda key: detector.init_with_output(key, image, content, targets, jax.random.split(key, 1)),
        jax.random.key(0),
    )
    return outputs, variables["params"]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_the_same_parts_around_its_attention(name):
    outputs, params = shapes(name)
    assert {part: params[part] for part in params if part != "attention"} == shapes("none")[1]
    row, (stage,) = ROWS[name], outputs.stages
    if row.attention in ("lga", "auxiliary"):
        assert stage.gaussians.masks.shape[2:] == (row.num_masks, row.crop_size, row.crop_size)
        answers = {"joint": 1, "subsets": 2**row.num_masks - 1}.get(row.classifier, row.num_masks)
        assert stage.guide_logits.shape[2:] == (answers, 9)


def test_the_row_close_up_guide_is_the_librarys_default():
    config = challenge.get_config()
    resolved = resolve("challenge", ROWS["close_up_guide"])
    assert resolved.model.lga.to_dict() == config.model.lga.to_dict()
    assert resolved.losses.to_dict() == config.losses.to_dict()
    assert resolved.model.attention == config.model.attention


def test_a_classifier_of_its_own_for_each_mask():
    x = crops()
    head = make_head(own_classifiers=True)
    variables, apply = initialised(head, x)
    attention = apply(variables, x)
    logits = attention.guide_logits
    assert logits.shape == (2, 3, 4, 4)
    params = variables["params"]["mask_classes"]
    for mask in range(4):
        weight = attention.gaussians.masks[:, :, mask, :, :, None]
        average = (x * weight).sum(axis=(2, 3)) / weight.sum(axis=(2, 3))
        own = slice(4 * mask, 4 * mask + 4)
        expected = average @ params["kernel"][:, own] + params["bias"][own]
        np.testing.assert_allclose(logits[:, :, mask], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_row_starts_from_the_same_weights():
    def start(name):
        return init_variables(detector_of(name), 3)["params"]

    base, other = start("none"), start("softmax_joint")
    assert set(other) - set(base) == {"attention"}
    jax.tree.map(np.testing.assert_array_equal, base, {part: other[part] for part in base})


def test_with_its_fields_at_their_defaults_it_is_the_librarys_head():
    x = crops()
    variables, apply = initialised(make_head(), x)
    found = LGAHead(**SIZES, num_classes=3).apply(variables, lambda level: x, True)
    jax.tree.map(np.testing.assert_array_equal, apply(variables, x), found)


@pytest.mark.parametrize("fields", [{}, {"guide_into": "masks"}, {"union": True}])
def test_the_guide_reaches_centres_and_sigmas(fields):
    x = crops()
    variables, apply = initialised(make_head(**fields), x)
    gradient = jax.grad(lambda v: (apply(v, x).guide_logits ** 2).sum())(variables)["params"]
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves([gradient["centres"], gradient["sigmas"]]))


@pytest.mark.parametrize(
    ("into", "pooled", "anywhere"), [("all", True, True), ("masks", False, True), ("head", False, False)]
)
def test_the_guide_stops_where_it_is_said_to(into, pooled, anywhere):
    x = crops()
    head = make_head(guide_into=into)
    variables, apply = initialised(head, x)
    masks = apply(variables, x).gaussians.masks
    through_pooling = jax.grad(lambda x: (head.apply(variables, x, masks, method="guide") ** 2).sum())(x)
    through_all = jax.grad(lambda x: (apply(variables, x).guide_logits ** 2).sum())(x)
    assert bool(jnp.any(through_pooling != 0)) == pooled
    assert bool(jnp.any(through_all != 0)) == anywhere


@pytest.mark.parametrize("kept", [(1, 1, 1, 1), (0, 1, 1, 1), (0, 0, 0, 0)])
def test_a_removed_mask_adds_neither_its_crop_nor_its_close_up(kept):
    head, crop, variables = close_up_head(StudyHead)
    params = projected(variables)
    whole = head.apply({"params": params}, crop, False)
    given = {"params": params, "kept": {"masks": jnp.asarray(kept, jnp.float32)}}
    found = head.apply(given, crop, False).fused
    crops, masks, weights = crop("pyramid"), whole.gaussians.masks, jnp.asarray(kept)
    highlighted = crops * (1.0 + (masks * weights[:, None, None]).mean(axis=2))[..., None]
    kernel = params["add_close_ups"]["project"]["kernel"].reshape(4, -1, 16)  # one part per mask
    details = head.bind({"params": params}).close_ups(crop, whole.gaussians)
    expected = highlighted + jnp.einsum("brmf,m,mfc->brc", details, weights, kernel)[:, :, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_guide_answers_from_every_subset_of_the_masks():
    x = crops()
    variables, apply = initialised(make_head(num_masks=2, classifier="joint", subsets=True), x)
    attention, params = apply(variables, x), variables["params"]["guide_classes"]
    second, first, both = np.moveaxis(np.asarray(attention.guide_logits) - params["bias"], 2, 0)
    averages = masked_averages(x, attention.gaussians.masks)
    kernels = params["kernel"].reshape(2, 16, -1)
    for mask, alone in enumerate((first, second)):
        np.testing.assert_allclose(alone, 2 * averages[:, :, mask] @ kernels[mask], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-4, atol=1e-4)


def test_soft_sigmas_start_like_the_others_and_keep_a_gradient():
    x = crops()
    variables, _ = initialised(make_head(), x)
    plain, soft = make_head(), make_head(soft_sigma=True)

    def sigmas(head, bias):
        params = variables["params"] | {"sigmas": variables["params"]["sigmas"] | {"bias": jnp.full(8, bias)}}
        return head.apply({"params": params}, lambda level: x, False).gaussians.sigmas

    assert np.abs(sigmas(soft, 0.5) - sigmas(plain, 0.5)).max() < 0.1
    assert np.all(sigmas(plain, -3.0) == 1.0) and np.all(sigmas(soft, -3.0) < 0.6)
    slopes = [jax.grad(lambda bias, head=head: sigmas(head, bias).sum())(-3.0) for head in (plain, soft)]
    assert slopes[0] == 0.0 and slopes[1] > 0.0


def test_the_union_of_masks_on_one_place_is_little_more_than_one():
    x = crops()
    variables, apply = initialised(make_head(union=True), x)
    attention = apply(variables, x)
    expected = x * (2.0 - jnp.prod(1.0 - attention.gaussians.masks, axis=-3))[..., None]
    np.testing.assert_allclose(attention.fused, expected, rtol=1e-5)


def test_overlap_by_hand():
    apart = jnp.eye(4)[:2].reshape(1, 2, 2, 2)
    assert overlap(apart) == 0
    np.testing.assert_allclose(overlap(jnp.ones((3, 4, 2, 2))), 1.0, rtol=1e-6)


def test_the_penalty_of_the_row_overlap_is_an_extra_loss():
    masks = jnp.ones((1, 3, 4, 7, 7))
    centres = jnp.zeros((1, 3, 4, 2))
    stage = StageOutputs(**dict.fromkeys(StageOutputs._fields))._replace(gaussians=Gaussians(centres, centres, masks))
    outputs = Outputs(rpn=None, stages=(stage,))
    ((name, loss),) = extra_losses(ROWS["overlap"]).items()
    assert name == "overlap"
    np.testing.assert_allclose(loss(outputs, Batch(**dict.fromkeys(Batch._fields))), 0.1, rtol=1e-6)
    assert extra_losses(ROWS["lga"]) == {}


def test_fine_crops_are_averaged_for_the_box_head():
    x = crops(14)
    variables, apply = initialised(make_head(), x)
    attention = apply(variables, x)
    assert attention.fused.shape == (2, 3, 7, 7, 16)
    assert attention.gaussians.masks.shape[-1] == 14
    np.testing.assert_allclose(average_to(x, 7)[0, 0, 0, 0], x[0, 0, :2, :2].mean(axis=(0, 1)), rtol=1e-5)
    assert average_to(crops(), 7).shape == crops().shape


def test_cards_start_from_the_weights_of_a_package():
    config = resolve("cards", ROWS["lga"], root="data", weights="r18.npz")
    assert config.model.init_from == "package://efficientnet_lite0" and "depth" not in config.model.backbone
    check(config, new_run=True)
    assert parse(["--data", "cards"]).weights == ""
    with pytest.raises(SystemExit):
        parse(["--data", "cards,bccd"])


def test_rows_differ_in_their_digests_and_data_may_lie_anywhere():
    digests = {digest(resolve("challenge", row), row) for row in ROWS.values()}
    assert len(digests) == len(ROWS)
    here, there = (resolve("bccd", ROWS["lga"], root, f"{root}/w.npz") for root in ("here", "there"))
    assert digest(here, ROWS["lga"]) == digest(there, ROWS["lga"])


def test_a_text_may_be_reworded_without_running_again():
    first, second = Row("one text"), Row("another")
    assert digest(resolve("challenge", first), first) == digest(resolve("challenge", second), second)
