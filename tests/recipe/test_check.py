import pytest

from lga_jax.errors import UserError
from lga_jax.recipe import RecipeError, check, load
from tests.recipe.faults import changed, faults

PART = dict(source="challenge", num_images=9, weight=1.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("images_at_once", -1),
        ("num_steps", 0),
        ("log_every", 0),
        ("checkpoint_every", 0),
        ("eval_every", -1),
        ("data.buckets", ()),
        ("data.buckets", ((32,),)),
        ("data.buckets", (800, 1344)),
        ("data.buckets", ((800.5, 1344.0),)),
        ("data.buckets", (("a", "b"),)),
        ("data.buckets", ("ab",)),
        ("data.buckets", ((10**6, 10**6),)),
        ("data.eval_buckets", ((32, 0),)),
        ("data.resize", "cubic"),
        ("data.size_rounding", "up"),
        ("data.scale_jitter", (0.1,)),
        ("data.scale_jitter", (2.0, 0.1)),
        ("data.scale_jitter", (0.0, 1.0)),
        ("data.scale_jitter", (0.1, float("inf"))),
        ("data.scale_jitter", (4.0, 4.5)),
        ("data.scale_jitter", (0.1, "x")),
        ("data.short_edges", ("x",)),
        ("data.short_edges", (24.5,)),
        ("data.short_edges", ()),
        ("data.short_edges", (0, 24)),
        ("data.short_edges", 160),
        ("data.eval_short_edge", 0),
        ("data.long_edge", -1),
        ("data.flip_probability", 1.5),
        ("data.photometric", -0.1),
        ("data.copy_paste", 1.1),
        ("data.repeat_threshold", 2.0),
        ("data.num_workers", 0),
        ("data.prefetch", -1),
        ("data.max_boxes", 0),
        ("model.dtype", "float16"),
        ("model.pixel_mean", (0.0, 0.0)),
        ("model.pixel_std", (1.0, 0.0, 1.0)),
        ("model.init_from", None),
        ("model.init_strict", "yes"),
        ("model.backbone.name", "vgg"),
        ("model.backbone.depth", 20),
        ("model.backbone.width", 24),
        ("model.backbone.norm", "ln"),
        ("model.backbone.frozen_stages", 6),
        ("model.fpn.norm", "ln"),
        ("model.anchors.sizes", (32, 64)),
        ("model.anchors.sizes", (32, 64, 128, 256, -1)),
        ("model.anchors.aspect_ratios", ()),
        ("model.anchor_sampling.num_samples", 0),
        ("model.anchor_sampling.negative_iou", 0.8),
        ("model.proposals.nms_iou", 1.1),
        ("model.proposals.post_nms_train", 1001),
        ("model.proposals.post_nms_test", 1001),
        ("model.roi_sampling.num_samples", 0),
        ("model.roi_align.crop_size", 0),
        ("model.roi_align.sampling_ratio", -1),
        ("model.rpn.num_convs", 0),
        ("model.attention", "se"),
        ("model.lga.num_masks", 0),
        ("model.lga.mu", "argmax"),
        ("model.lga.sigma", "none"),
        ("model.lga.fusion", "add"),
        ("model.lga.classifier", "per_mask"),
        ("model.lga.guide_level", "p2"),
        ("model.box_head.num_fcs", 0),
        ("model.box_head.norm", "ln"),
        ("model.box_head.dense_init", "torch"),
        ("model.box_head.class_agnostic", 2),
        ("model.cascade.attentions", "lga"),
        ("model.cascade.positive_ious", (1.5,)),
        ("model.cascade.coder_scales", (0.0,)),
        ("model.cascade.loss_weights", (-1.0,)),
        ("losses.guide_rois", "front"),
        ("losses.guide_weight", -1.0),
        ("inference.score_threshold", 2.0),
        ("inference.max_candidates", 49),
        ("optim.lr", -1.0),
        ("optim.lr", float("nan")),
        ("optim.optimizer", "adam"),
        ("optim.schedule", "linear"),
        ("optim.momentum", 1.0),
        ("optim.milestones", (800, 600)),
        ("optim.milestones", (0,)),
        ("optim.ema_decay", 1.0),
        ("optim.backbone_decay", 0.0),
        ("data.train.num_images", 0),
        ("data.train.seed", -1),
        ("data.train.image_hw", (32, 160)),
        ("data.eval.challenges", ("fog",)),
        ("data.eval.severities", (4,)),
        ("data.eval.min_objects", 5),
        ("data.train.source", "coco"),
    ],
)
def test_a_wrong_value_is_named_alone(key, value):
    found = faults(changes={key: value})
    assert found.keys() == {key}
    assert found[key].expected and found[key].found and found[key].remedy


def test_all_faults_are_told_at_once():
    found = faults("coco", {"data.resize": "cubic", "optim.lr": -1.0, "seed": "x", "batchsize": 2}, new_run=True)
    assert found.keys() == {"data.resize", "optim.lr", "seed", "batchsize", "model.init_from"}
    with pytest.raises(UserError) as caught:
        check(changed("coco", {"data.resize": "cubic", "optim.lr": -1.0}))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["data.resize", "optim.lr"]
    assert [str(fault)[:5] for fault in caught.value.within("run").faults] == ["run: ", "run: "]


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("optim.learning_rate", "did you mean optim.lr?"),
        ("batchsize", "did you mean batch_size?"),
        ("data.train.annotation", "did you mean data.train.annotations?"),
        ("model.backbone.zzzz", "model.backbone has name, depth, width, norm"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key, remedy):
    (fault,) = faults("coco", {key: 1}).values()
    assert fault.subject == key
    assert fault.remedy.startswith(remedy)


def test_missing_keys_and_sections_are_named():
    config = load("coco")
    del config.seed
    config.model.fpn = 3
    del config.data.eval.root
    with pytest.raises(RecipeError) as caught:
        check(config)
    assert {fault.subject for fault in caught.value.faults} == {"seed", "model.fpn", "data.eval.root"}


def test_a_near_choice_is_proposed():
    assert faults(changes={"data.resize": "bilinaer"})["data.resize"].remedy == "did you mean 'bilinear'?"


def test_values_take_their_types_in_a_copy():
    config = changed("coco", {"num_steps": 1e3, "data.short_edges": [640, 800], "data.max_boxes": 20.0, "optim.lr": 1})
    checked = check(config)
    assert (checked.num_steps, checked.data.short_edges, checked.data.max_boxes) == (1000, (640, 800), 20)
    assert [type(value) for value in (checked.num_steps, checked.data.max_boxes, checked.optim.lr)] == [int, int, float]
    assert (type(config.num_steps), config.is_locked, checked.is_locked) == (float, False, True)


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ({"parts": {}}, "data.train.parts"),
        ({"parts": 5}, "data.train.parts"),
        ({"parts": {"a": 5}}, "data.train.parts.a"),
        ({"parts": {"a": PART}, "classes": "b"}, "data.train.classes"),
        ({"parts": {"a": PART | {"weight": 0}}}, "data.train.parts.a.weight"),
        ({"parts": {"a": PART | {"weight": 1e308}}}, "data.train.parts.a.weight"),
        ({"parts": {"a": PART | {"weight": float("nan")}}}, "data.train.parts.a.weight"),
        ({"parts": {"a": dict(source="challenge", num_images=9)}}, "data.train.parts.a.weight"),
        ({"parts": {"a": PART | {"source": "b"}}}, "data.train.parts.a.source"),
        ({"parts": {"a": PART | {"nums": 5}}}, "data.train.parts.a.nums"),
    ],
)
def test_parts_that_cannot_be_mixed(change, subject):
    found = faults(changes={"data.train": dict(source="mixed", parts={"a": PART}) | change})
    assert next(iter(found)).startswith(subject)


def test_parts_can_be_mixed_within_parts():
    inner = dict(source="mixed", weight=2, parts={"b": PART}, classes="b")
    config = changed("challenge", {"data.train": dict(source="mixed", parts={"a": PART, "in": inner}, classes="in")})
    assert check(config).data.train.parts["in"].weight == 2.0


def test_parts_of_the_users_own_are_left_alone():
    config = load("coco")
    config.data.train = dict(of_mine=1)
    config.model.backbone = dict(blocks=3)
    checked = check(config, own=("data.train", "model.backbone", "model.attention"), new_run=True)
    assert checked.data.train.of_mine == 1
    assert faults("coco", {"model.fpn.norm": "ln"}, own=("model.backbone",)).keys() == {"model.fpn.norm"}
