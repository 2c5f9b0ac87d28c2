import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.coco import get_config
from lga_jax.inference.step import detect_in
from lga_jax.models.losses import detection_losses
from tests.models import tiny

LOSSES = get_config().losses.to_dict() | dict(guide_rois="all")


@pytest.fixture(scope="module")
def lga():
    return tiny.built()


@pytest.fixture(scope="module")
def trained_outputs(lga):
    apply = jax.jit(lga.detector.apply)
    return apply(lga.variables, lga.images, lga.image_hw, lga.targets, lga.keys)


@pytest.fixture(scope="module")
def gradient_of(lga):
    """Gradient of one loss term in the parameters."""

    @jax.jit
    def pullbacks(params):
        def terms(params):
            variables = {"params": params}
            outputs = lga.detector.apply(variables, lga.images, lga.image_hw, lga.targets, lga.keys)
            losses = detection_losses(lga.detector.stages, outputs, lga.targets, LOSSES)
            return {name: value for name, value in losses.items() if name != "total"}

        return jax.jacrev(terms)(params)

    gradients = pullbacks(lga.variables["params"])
    return lambda term: gradients[term]


def is_zero(tree):
    return all(bool(jnp.all(leaf == 0.0)) for leaf in jax.tree.leaves(tree))


def test_a_stage_by_itself_has_its_parameters(lga):
    crops = jnp.zeros((1, 2, 7, 7, lga.detector.fpn.channels))

    def logits(detector):
        return detector.stage(0).box_head(crops, False)[0]

    shape = jax.eval_shape(lambda variables: lga.detector.apply(variables, method=logits), lga.variables).shape
    assert shape == (1, 2, tiny.NUM_CLASSES + 1)


@pytest.mark.parametrize("attention", ["lga", "cbam", "non_local", "none"])
def test_shapes_with_every_attention(attention):
    config = tiny.model_config(attention=attention)
    _, outputs = tiny.shapes(config, image_hw=(128, 256), num_images=2)
    anchors = 3 * sum(32 * 64 // 4**level for level in range(5))
    assert outputs.rpn.anchors.shape == (anchors, 4)
    assert outputs.rpn.objectness.shape == (2, anchors)
    (stage,) = outputs.stages
    assert stage.rois.boxes.shape == (2, 16, 4)
    assert stage.class_logits.shape == (2, 16, tiny.NUM_CLASSES + 1)
    assert stage.box_deltas.shape == (2, 16, tiny.NUM_CLASSES, 4)
    if attention == "lga":
        assert stage.guide_logits.shape == (2, 16, 1, tiny.NUM_CLASSES + 1)  # one for all masks together
        assert stage.gaussians.masks.shape == (2, 16, 4, 7, 7)
    else:
        assert stage.guide_logits is None and stage.gaussians is None


def guide_gradient(guide_level, frozen_stages):
    """Gradient of the guide's loss in the parameters, with constant masks: what passes through the pooled crops."""
    config = tiny.model_config(
        backbone=dict(depth=18, width=16, norm="gn", frozen_stages=frozen_stages), fpn=dict(channels=32)
    )
    config.lga.guide_level = guide_level
    case = tiny.built(config)
    rule = LOSSES | {"guide_rois": "foreground"}

    def loss(params):
        def held(next_function, args, kwargs, context):
            result = next_function(*args, **kwargs)
            if context.method_name == "predict_gaussians":
                return jax.lax.stop_gradient(result)
            return result

        with nn.intercept_methods(held):
            outputs = case.detector.apply({"params": params}, case.images, case.image_hw, case.targets, case.keys)
        return detection_losses(case.detector.stages, outputs, case.targets, rule)["guide"]

    return jax.jit(jax.grad(loss))(case.variables["params"])


@pytest.mark.parametrize(
    ("guide_level", "channels", "reached"),
    [
        ("c2", 16, {"conv1", "norm1", "layer1"}),
        ("pyramid", 32, {"conv1", "norm1", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_the_guide_reads_crops_of_its_level(guide_level, channels, reached):
    gradient = guide_gradient(guide_level, frozen_stages=0)
    assert gradient["attention"]["guide_classes"]["kernel"].shape == (4 * channels, tiny.NUM_CLASSES + 1)
    assert {name.split("_")[0] for name, leaves in gradient["backbone"].items() if not is_zero(leaves)} == reached
    assert is_zero(gradient["fpn"]) == (guide_level == "c2")


@pytest.mark.parametrize(("frozen_stages", "reached"), [(0, {"conv1", "norm1", "layer1"}), (2, set())])
def test_the_guide_reads_close_ups_of_the_first_stage(frozen_stages, reached):
    gradient = guide_gradient("close_up", frozen_stages)
    assert {name.split("_")[0] for name, leaves in gradient["backbone"].items() if not is_zero(leaves)} == reached
    assert is_zero(gradient["fpn"])
    # Its own layers learn also from a frozen stage.
    assert all(not is_zero(gradient["attention"]["close_ups"][name]) for name in ("reduce", "hidden"))


def test_the_guide_stops_at_a_frozen_first_stage():
    gradient = guide_gradient("c2", frozen_stages=2)
    assert is_zero(gradient["backbone"]) and is_zero(gradient["fpn"])
    assert not is_zero(gradient["attention"]["guide_classes"])


@pytest.mark.parametrize("depth", [18, 50])
def test_bfloat16_keeps_parameters_scores_and_boxes_in_float32(depth):
    config = tiny.model_config(dtype="bfloat16", backbone=dict(depth=depth, width=16, norm="gn", frozen_stages=0))
    variables, outputs = tiny.shapes(config)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {jnp.dtype("float32")}
    floats = [leaf.dtype for leaf in jax.tree.leaves(outputs) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert set(floats) == {jnp.dtype("float32")}


def test_without_targets_every_proposal_passes_and_nothing_of_training_is_there():
    _, outputs = tiny.shapes(tiny.model_config(), train=False)
    (stage,) = outputs.stages
    assert stage.rois.boxes.shape == (1, 20, 4)
    assert outputs.rpn.samples is None and stage.targets is None and stage.guide_logits is None
    assert stage.gaussians is not None


def test_guide_is_not_computed_at_inference(lga):
    """The classifier of the guide does not even reach the program that inference runs."""
    inference = jax.make_jaxpr(lambda v: lga.detector.apply(v, lga.images, lga.image_hw))(lga.variables)
    leaves = jax.tree_util.tree_leaves_with_path(lga.variables)
    unused = {
        jax.tree_util.keystr(path)
        for (path, _), var in zip(leaves, inference.jaxpr.invars, strict=True)
        if not any(var in equation.invars for equation in inference.jaxpr.eqns)
    }
    assert unused == {
        "['params']['attention']['guide_classes']['bias']",
        "['params']['attention']['guide_classes']['kernel']",
    }


def test_every_object_has_a_positive_roi_from_the_start(trained_outputs, lga):
    truth = trained_outputs.stages[0].targets
    labels = np.asarray(truth.labels)
    for image in range(2):
        assert {0, 2} <= set(labels[image])
    assert np.all(labels[~np.asarray(truth.valid)] == tiny.NUM_CLASSES)


def test_samples_depend_on_an_images_own_key_only(lga, trained_outputs):
    """The same image with the same key alone in a batch gives the same samples, as data parallelism needs."""
    alone = lga.detector.apply(
        lga.variables,
        lga.images[1:],
        lga.image_hw[1:],
        jax.tree.map(lambda leaf: leaf[1:], lga.targets),
        lga.keys[1:],
    )
    np.testing.assert_array_equal(alone.rpn.samples.index[0], trained_outputs.rpn.samples.index[1])
    np.testing.assert_array_equal(alone.stages[0].targets.labels[0], trained_outputs.stages[0].targets.labels[1])


def test_padding_does_not_change_the_features_seen_by_the_content(lga):
    """What lies in the padding is zero after normalisation, whatever bytes it holds."""
    hw = jnp.full((2, 2), jnp.array([48.0, 64.0]))
    noisy = lga.images.at[:, 48:].set(17).at[:, :, 64:].set(200)
    apply = jax.jit(lga.detector.apply)
    first, second = (apply(lga.variables, images, hw).stages[0] for images in (lga.images, noisy))
    np.testing.assert_array_equal(first.class_logits, second.class_logits)
    np.testing.assert_array_equal(first.rois.boxes, second.rois.boxes)
    boxes = np.asarray(first.rois.boxes)
    assert boxes[..., 3].max() <= 48 and boxes[..., 2].max() <= 64


def test_second_stage_sends_no_gradient_into_the_rpn(gradient_of):
    for term in ("roi_class", "roi_box", "guide"):
        assert is_zero(gradient_of(term)["rpn"]), term
        assert not is_zero(gradient_of(term)["fpn"]), term
    assert not is_zero(gradient_of("rpn_objectness")["rpn"])


def test_rpn_sends_no_gradient_into_the_second_stage(gradient_of):
    for term in ("rpn_objectness", "rpn_box"):
        assert is_zero(gradient_of(term)["attention"]) and is_zero(gradient_of(term)["box_head"]), term


def test_guide_reaches_the_masks_and_the_backbone_but_not_the_box_head(gradient_of):
    gradient = gradient_of("guide")
    for name in ("centres", "sigmas", "guide_classes"):
        assert not is_zero(gradient["attention"][name]), name
    assert not is_zero(gradient["backbone"])
    assert is_zero(gradient["box_head"])


@pytest.fixture(scope="module")
def masked():
    """A cascade with a mask head; the first of its two stages has LGA."""
    config = tiny.model_config()
    config.cascade.update(attentions=("none",), positive_ious=(0.4,), coder_scales=(2.0,), loss_weights=(0.5,))
    config.mask_head.enabled = True
    case = tiny.built(config)
    # The last layer begins near zero; its gradient is that of nobody else yet.
    kernel = case.variables["params"]["mask_head"]["classes"]["kernel"]
    case.variables["params"]["mask_head"]["classes"]["kernel"] = kernel + 0.1
    return case


def test_the_mask_loss_reaches_the_mask_head_and_the_pyramid_but_not_what_chose_the_rois(masked):
    def loss(params):
        variables = {"params": params}
        outputs = masked.detector.apply(variables, masked.images, masked.image_hw, masked.targets, masked.keys)
        terms = detection_losses(masked.detector.stages, outputs, masked.targets, LOSSES | {"mask_weight": 3.0})
        return terms["mask"], (outputs, terms)

    gradient, (outputs, terms) = jax.jit(jax.grad(loss, has_aux=True))(masked.variables["params"])
    assert {part for part, leaves in gradient.items() if not is_zero(leaves)} == {"backbone", "fpn", "mask_head"}
    assert not any(is_zero(leaves) for leaves in gradient["mask_head"].values())
    stage, masks = outputs.stages[-1], outputs.masks
    assert masks.logits.shape == masks.targets.shape == (2, 4, 8, 8)  # a quarter of 16 samples
    assert outputs.pyramid is None
    positive = np.asarray(stage.targets.valid & (stage.targets.labels < tiny.NUM_CLASSES))
    np.testing.assert_array_equal(masks.valid, positive[:, :4])
    assert positive.sum() == masks.valid.sum() > 0  # all positive RoIs stand in these slots
    others = {name: value for name, value in terms.items() if name not in ("mask", "total")}
    weights = {name: 0.5 if name.endswith("_2") else 1.0 for name in others} | {"guide": LOSSES["guide_weight"]}
    total = sum(weights[name] * value for name, value in others.items()) + 3.0 * terms["mask"]
    assert float(terms["total"]) == pytest.approx(float(total), rel=1e-5)


def test_detections_have_the_masks_of_their_class_in_their_box(masked):
    rule = dict(score_threshold=0.0, nms_iou=0.5, min_size=0.0, max_candidates=40, max_detections=5)
    find = jax.jit(lambda *inputs: detect_in(masked.detector, rule, *inputs))
    found = find(masked.variables, masked.images, masked.image_hw)
    assert found.masks.shape == (2, 5, 8, 8) and found.valid.all()
    assert 0 < found.masks.min() < found.masks.max() < 1

    def head(detector, pyramid):
        return detector.mask_head(pyramid, found.boxes[:, 3:4], found.labels[:, 3:4], False)

    pyramid = jax.jit(masked.detector.apply)(masked.variables, masked.images, masked.image_hw).pyramid
    logits = masked.detector.apply(masked.variables, pyramid, method=head)
    np.testing.assert_allclose(found.masks[:, 3], jax.nn.sigmoid(logits[:, 0]), atol=1e-5)


def test_total_weighs_the_guide(lga, gradient_of):
    @jax.jit
    def total(params):
        outputs = lga.detector.apply({"params": params}, lga.images, lga.image_hw, lga.targets, lga.keys)
        return detection_losses(lga.detector.stages, outputs, lga.targets, LOSSES)["total"]

    parts = [gradient_of(term) for term in ("rpn_objectness", "rpn_box", "roi_class", "roi_box", "guide")]
    weighted = jax.tree.map(lambda *g: sum(g[:-1]) + LOSSES["guide_weight"] * g[-1], *parts)
    gradient = jax.grad(total)(lga.variables["params"])
    for got, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(weighted), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


def test_image_without_objects_has_finite_losses_and_gradients(lga):
    empty = jax.tree.map(jnp.zeros_like, lga.targets)

    @jax.jit
    def loss(params):
        outputs = lga.detector.apply({"params": params}, lga.images, lga.image_hw, empty, lga.keys)
        terms = detection_losses(lga.detector.stages, outputs, empty, LOSSES)
        return terms["total"], terms

    (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(lga.variables["params"])
    assert terms["rpn_box"] == 0.0 and terms["roi_box"] == 0.0
    assert terms["roi_class"] > 0.0
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient))
