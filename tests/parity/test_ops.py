"""Every operation alone, on the same arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.coco import get_config
from lga_jax.models import rpn
from lga_jax.models.postprocess import detect
from lga_jax.models.roi import stage
from lga_jax.models.roi.losses import roi_losses
from lga_jax.models.rpn import rpn_losses, select_proposals
from lga_jax.ops import boxes as box_ops
from lga_jax.ops.anchors import pyramid_anchors
from lga_jax.ops.matching import match
from lga_jax.ops.nms import nms
from lga_jax.ops.roi_align import multilevel_roi_align, pyramid_level
from lga_jax.structs import Outputs, RoIs, RoITargets, RPNOutputs, Samples, StageOutputs, Targets
from tests.parity.reference import array, both, channels_first, channels_last, tensor, torch, torchvision
from tests.reference.boxes import random_boxes

BoxCoder = torchvision.models.detection._utils.BoxCoder
Matcher = torchvision.models.detection._utils.Matcher
ImageList = torchvision.models.detection.image_list.ImageList
AnchorGenerator = torchvision.models.detection.anchor_utils.AnchorGenerator
RegionProposalNetwork = torchvision.models.detection.rpn.RegionProposalNetwork
RoIHeads = torchvision.models.detection.roi_heads.RoIHeads

UNFILLED = "with empty slots, torchvision's being divided by all slots"
STRIDES = (4, 8, 16, 32, 64)  # P2..P6
SIZES, RATIOS = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)


def stage_outputs(**fields):
    """Outputs of a RoI stage; only some fields matter."""
    return StageOutputs(**dict.fromkeys(StageOutputs._fields) | {"coder_weights": stage.CODER_WEIGHTS} | fields)


def features_hw(image_hw):
    """Of P2..P6: every level halves, rounding up."""
    return [tuple(-(-side // stride) for side in image_hw) for stride in STRIDES]


def anchors_of(image_hw):
    """Anchors of every level by lga_jax and by torchvision."""
    rule = dict(sizes=SIZES, aspect_ratios=RATIOS, rounded=True, fixed_stride=False)
    ours = pyramid_anchors(image_hw, features_hw(image_hw), STRIDES, **rule)
    generator = AnchorGenerator(tuple((size,) for size in SIZES), (RATIOS,) * len(SIZES))
    image = ImageList(torch.zeros(1, 1, *image_hw), [image_hw])
    theirs = generator(image, [torch.zeros(1, 1, *hw) for hw in features_hw(image_hw)])
    return ours, array(theirs[0])


# 800 and 1312 are odd multiples of 32: P6 is rounded up, and its cells lie closer together than 64 pixels.
@pytest.mark.parametrize("image_hw", [(64, 64), (800, 1344), (800, 1088), (1312, 800), (288, 352)])
def test_anchors(record, image_hw):
    ours, theirs = anchors_of(image_hw)
    record.same("anchors", "of all levels, sides even and odd multiples of 32", jnp.concatenate(ours), theirs)


@pytest.mark.parametrize("weights", [rpn.CODER_WEIGHTS, stage.CODER_WEIGHTS])
def test_box_coder(record, rng, weights):
    anchors, their_anchors = both(random_boxes(rng, 2000, (800, 1333)))
    boxes, their_boxes = both(random_boxes(rng, 2000, (800, 1333)))
    coder = BoxCoder(weights)
    theirs = coder.encode_single(their_boxes, their_anchors)
    record.near("box coder", "encode", box_ops.encode(boxes, anchors, weights), array(theirs))
    deltas, their_deltas = both(rng.normal(0, 2, (2000, 4)).astype(np.float32) * np.float32(weights))
    assert (deltas[:, 2:] / weights[2] > box_ops.MAX_LOG_RATIO).any()
    theirs = coder.decode_single(their_deltas, their_anchors)
    record.near("box coder", "decode, growth bounded", box_ops.decode(deltas, anchors, weights), array(theirs))


def test_iou(record, rng):
    boxes, their_boxes = both(random_boxes(rng, 300, (800, 1333)))
    others, their_others = both(random_boxes(rng, 400, (800, 1333)))
    theirs = torchvision.ops.box_iou(their_boxes, their_others)
    record.near("IoU", "every pair", box_ops.pairwise_iou(boxes, others), array(theirs))


def compare_matches(record, what, boxes, truth, positive_iou, negative_iou, low_quality):
    rule = dict(positive_iou=positive_iou, negative_iou=negative_iou, low_quality=low_quality)
    # The last slots are empty, as in a batch.
    slots, valid = np.pad(truth, ((0, 3), (0, 0))), np.arange(len(truth) + 3) < len(truth)
    ours = match(jnp.asarray(boxes), jnp.asarray(slots), jnp.asarray(valid), **rule)
    matcher = Matcher(positive_iou, negative_iou, allow_low_quality_matches=low_quality)
    theirs = array(matcher(torchvision.ops.box_iou(tensor(truth), tensor(boxes))))
    answer = np.where(ours.positive, ours.matched, np.where(ours.negative, matcher.BELOW_LOW_THRESHOLD, -2))
    assert all((theirs >= 0).any() for theirs in (theirs, -1 - theirs))
    record.same("matching", what, answer, theirs)


@pytest.mark.parametrize("integer", [False, True])
def test_matching_of_anchors(record, rng, integer):
    anchors = np.concatenate(anchors_of((288, 352))[0])
    for _ in range(10):
        truth = random_boxes(rng, 12, (288, 352), integer)
        compare_matches(record, "anchors, best ones of every object", anchors, truth, 0.7, 0.3, True)


def test_matching_of_anchors_with_ties(record):
    """Objects that lie in the middle between cells overlap two or four anchors alike."""
    anchors = np.concatenate(anchors_of((288, 352))[0])
    truth = np.array([[50, 50, 62, 62], [96, 32, 160, 96], [18, 100, 46, 144], [0, 0, 8, 8]], np.float32)
    best = box_ops.pairwise_iou(jnp.asarray(truth), jnp.asarray(anchors))
    assert ((best == best.max(axis=1, keepdims=True)).sum(axis=1) > 1).sum() >= 3
    compare_matches(record, "anchors, best ones of every object", anchors, truth, 0.7, 0.3, True)


def test_matching_of_rois(record, rng):
    for _ in range(10):
        truth = random_boxes(rng, 12, (288, 352))
        near = truth[rng.integers(12, size=300)] + rng.normal(0, 12, (300, 4)).astype(np.float32)
        boxes = np.concatenate([random_boxes(rng, 700, (288, 352)), near, truth])
        compare_matches(record, "RoIs", boxes, truth, 0.5, 0.5, False)


def cluttered(rng, num_groups, group, spread=6.0):
    """Groups of boxes that overlap each other by all amounts."""
    centres = np.repeat(random_boxes(rng, num_groups, (600, 600)), group, axis=0)
    boxes = centres + rng.normal(0, spread, centres.shape).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return boxes


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_nms(record, rng, iou):
    boxes, their_boxes = both(cluttered(rng, 60, 15))
    # Two decimals, so that there are ties: the earlier box wins.
    scores, their_scores = both(rng.uniform(0, 1, len(boxes)).round(2).astype(np.float32))
    theirs = array(torchvision.ops.nms(their_boxes, their_scores, iou))
    assert len(theirs) < 0.9 * len(boxes)
    record.same("NMS", "boxes kept", nms(boxes, scores, iou), np.isin(np.arange(len(boxes)), theirs))


@pytest.mark.parametrize("num_groups", [60, 120])  # torchvision shifts boxes apart up to 1000, and loops beyond
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_nms_by_class(record, rng, iou, num_groups):
    boxes, their_boxes = both(cluttered(rng, num_groups, 15))
    scores, their_scores = both(rng.uniform(0, 1, len(boxes)).astype(np.float32))
    classes, their_classes = both(rng.integers(0, 5, len(boxes)).astype(np.int32))
    theirs = array(torchvision.ops.batched_nms(their_boxes, their_scores, their_classes, iou))
    ours = nms(boxes, scores, iou, classes)
    record.same("NMS", "boxes kept, within classes", ours, np.isin(np.arange(len(boxes)), theirs))


def edge_boxes(rng, image_hw):
    """Inside, over every border, outside, thinner than a cell, and as large as the image."""
    height, width = image_hw
    inside = random_boxes(rng, 60, image_hw)
    over = inside + rng.uniform(-60, 60, (60, 1)).astype(np.float32)
    tiny = inside[:20].copy()
    tiny[:, 2:] = tiny[:, :2] + rng.uniform(0.05, 3, (20, 2)).astype(np.float32)
    whole = [[0, 0, width, height], [-50, -50, width + 50, height + 50], [width - 4, height - 4, width, height]]
    return np.concatenate([inside, over, tiny, np.float32(whole)])


@pytest.mark.parametrize("stride", [4, 16])
@pytest.mark.parametrize("sampling_ratio", [2, 0])
@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align_of_one_level(record, rng, aligned, sampling_ratio, stride):
    image_hw = (160, 224)
    features = rng.normal(size=(1, image_hw[0] // stride, image_hw[1] // stride, 8)).astype(np.float32)
    boxes, their_boxes = both(edge_boxes(rng, image_hw))

    def crop(level):
        return multilevel_roi_align(
            [level], boxes, strides=(stride,), crop_size=7, sampling_ratio=sampling_ratio, aligned=aligned
        )

    level = channels_first(features).requires_grad_()
    theirs = torchvision.ops.roi_align(level, [their_boxes], 7, 1 / stride, sampling_ratio, aligned)
    ours, pull = jax.vjp(crop, jnp.asarray(features[0]))
    weights = rng.normal(size=ours.shape).astype(np.float32)
    theirs.backward(channels_first(weights))
    what = f"{'aligned' if aligned else 'not aligned'}, {'2 x 2' if sampling_ratio else 'adaptive'} points"
    record.near("RoIAlign", f"{what}, forward", ours, channels_last(theirs))
    record.near("RoIAlign", f"{what}, backward", pull(weights)[0], channels_last(level.grad)[0])


def test_roi_align_of_a_pyramid(record, rng):
    image_hw, levels = (576, 640), ("0", "1", "2", "3")
    features = [rng.normal(size=(1, *hw, 8)).astype(np.float32) for hw in features_hw(image_hw)[:4]]
    corners = rng.uniform(0, 200, (400, 2))
    sides = np.exp(rng.uniform(np.log(20), np.log(900), (400, 2)))
    boxes = np.concatenate([corners, np.minimum(corners + sides, image_hw[::-1])], axis=1)
    boxes, their_boxes = both(boxes.astype(np.float32))
    assert set(np.asarray(pyramid_level(boxes, STRIDES[:4])).tolist()) == {0, 1, 2, 3}

    def crop(pyramid):
        return multilevel_roi_align(pyramid, boxes, strides=STRIDES[:4], crop_size=7, sampling_ratio=2, aligned=False)

    pyramid = {name: channels_first(level).requires_grad_() for name, level in zip(levels, features, strict=True)}
    theirs = torchvision.ops.MultiScaleRoIAlign(levels, 7, 2)(pyramid, [their_boxes], [image_hw])
    ours, pull = jax.vjp(crop, [jnp.asarray(level[0]) for level in features])
    weights = rng.normal(size=ours.shape).astype(np.float32)
    theirs.backward(channels_first(weights))
    record.near("RoIAlign", "four levels, forward", ours, channels_last(theirs))
    for gradient, level in zip(pull(weights)[0], pyramid.values(), strict=True):
        record.near("RoIAlign", "four levels, backward", gradient, channels_last(level.grad)[0])


def test_pyramid_level(record, rng):
    """Squares and oblongs at the sizes where the level changes, a little below and a little above, anywhere."""
    sides = np.float32([56, 112, 224, 448, 896])
    sides = np.concatenate([np.nextafter(sides, 0), sides, np.nextafter(sides, np.inf), rng.uniform(1, 1200, 2000)])
    stretch = rng.choice([1.0, 0.5, 2.0, 4.0], len(sides))
    origin = rng.choice([0.0, 16.0, 129.0], (len(sides), 2))
    boxes = np.concatenate([origin, origin + np.stack([sides * stretch, sides / stretch], axis=1)], axis=1)
    boxes, their_boxes = both(boxes.astype(np.float32))
    theirs = torchvision.ops.poolers.LevelMapper(2, 5)([their_boxes])
    record.same("RoIAlign", "level of a box", pyramid_level(boxes, STRIDES[:4]), array(theirs))


@pytest.mark.parametrize(("pre_nms", "post_nms"), [(1000, 1000), (300, 200)])
def test_proposals(record, rng, pre_nms, post_nms):
    image_hw, padded_hw = (270, 341), (288, 352)
    anchors, all_anchors = anchors_of(padded_hw)
    counts = [len(level) for level in anchors]
    objectness = rng.normal(0, 2, len(all_anchors)).astype(np.float32)
    deltas = rng.normal(0, 0.4, (len(all_anchors), 4)).astype(np.float32)
    ends = np.cumsum(counts)[:-1]
    ours = select_proposals(
        [jnp.asarray(part) for part in np.split(objectness, ends)],
        [jnp.asarray(part) for part in np.split(deltas, ends)],
        anchors,
        jnp.asarray(image_hw, jnp.float32),
        pre_nms=pre_nms,
        post_nms=post_nms,
        nms_iou=0.7,
        min_size=1e-3,
    )
    network = RegionProposalNetwork(
        None, None, 0.7, 0.3, 256, 0.5, dict(testing=pre_nms), dict(testing=post_nms), 0.7
    ).eval()
    decoded = network.box_coder.decode(tensor(deltas), [tensor(all_anchors)]).view(1, -1, 4)
    boxes, scores = network.filter_proposals(decoded, tensor(objectness)[None], [image_hw], counts)
    record.same("proposals", "how many", ours.valid.sum(), len(boxes[0]))
    valid = np.asarray(ours.valid)
    record.near("proposals", "boxes, in order", ours.boxes[valid], array(boxes[0]))
    record.near("proposals", "objectness", jax.nn.sigmoid(ours.scores[valid]), array(scores[0]))


def test_postprocessing(record, rng):
    num_rois, num_classes, image_hw = 120, 6, (270, 341)
    rois = cluttered(rng, 30, 4, 10.0)
    rois = np.stack([rois, random_boxes(rng, num_rois, image_hw)])
    logits = rng.normal(0, 2, (2, num_rois, num_classes + 1)).astype(np.float32)
    deltas = rng.normal(0, 2, (2, num_rois, num_classes, 4)).astype(np.float32)
    answers = stage_outputs(
        rois=RoIs(jnp.asarray(rois), jnp.zeros((2, num_rois)), jnp.ones((2, num_rois), bool)),
        class_logits=jnp.asarray(logits),
        box_deltas=jnp.asarray(deltas),
    )
    rule = dict(score_threshold=0.05, nms_iou=0.5, min_size=0.01, max_candidates=1000, max_detections=100)
    ours = detect(Outputs(None, (answers,)), jnp.asarray([image_hw] * 2, jnp.float32), **rule)
    heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, 0.05, 0.5, 100).eval()
    # Background is torchvision's first class, with deltas that nobody reads.
    theirs_deltas = np.pad(deltas, ((0, 0), (0, 0), (1, 0), (0, 0)))
    boxes, scores, labels = heads.postprocess_detections(
        tensor(np.roll(logits, 1, axis=-1).reshape(-1, num_classes + 1)),
        tensor(theirs_deltas.reshape(2 * num_rois, -1)),
        list(tensor(rois)),
        [image_hw] * 2,
    )
    for i in range(2):
        valid = np.asarray(ours.valid[i])
        record.same("postprocessing", "how many", valid.sum(), len(boxes[i]))
        record.same("postprocessing", "classes, in order", ours.labels[i][valid] + 1, array(labels[i]))
        record.near("postprocessing", "boxes", ours.boxes[i][valid], array(boxes[i]))
        record.near("postprocessing", "scores", ours.scores[i][valid], array(scores[i]))


def unfilled_samples(rng, num_slots, num_filled, num_positive, num_choices):
    """Positives first, then negatives, then slots that nothing fills; and what each index means to torchvision."""
    slot = np.arange(num_slots)
    samples = Samples(
        index=jnp.asarray(rng.permutation(num_choices)[:num_slots])[None],
        positive=jnp.asarray(slot < num_positive)[None],
        valid=jnp.asarray(slot < num_filled)[None],
        matched=jnp.zeros((1, num_slots), jnp.int32),
    )
    labels = np.full(num_choices, -1, np.float32)
    labels[samples.index[0, :num_filled]] = slot[:num_filled] < num_positive
    return samples, tensor(labels)


def test_rpn_losses_of_unfilled_slots(record, rng):
    """Ours are divided by the number of slots, torchvision's by the number of samples."""
    num_slots, num_filled = 256, 90
    anchors, their_anchors = both(random_boxes(rng, 500, (288, 352)))
    truth, their_truth = both(random_boxes(rng, 1, (288, 352)))
    objectness, their_objectness = both(rng.normal(0, 2, (1, 500)).astype(np.float32))
    deltas, their_deltas = both(rng.normal(0, 1, (1, 500, 4)).astype(np.float32))
    samples, labels = unfilled_samples(rng, num_slots, num_filled, 20, 500)
    outputs = RPNOutputs(anchors=anchors, objectness=objectness, deltas=deltas, samples=samples)
    targets = Targets(truth[None], jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool))
    ours = rpn_losses(outputs, targets, "l1", 1 / 9)
    network = RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, None, None, 0.7)
    network.fg_bg_sampler = lambda labels: ([label == 1 for label in labels], [label == 0 for label in labels])
    wanted = network.box_coder.encode_single(their_truth.expand(500, 4), their_anchors)
    theirs = network.compute_loss(their_objectness.reshape(-1, 1), their_deltas[0], [labels], [wanted])
    for name, loss in zip(("rpn_objectness", "rpn_box"), theirs, strict=True):
        record.near("losses", UNFILLED, ours[name], loss.item() * num_filled / num_slots)


def test_roi_losses_of_unfilled_slots(record, rng):
    num_slots, num_filled, num_classes = 64, 40, 5
    rois, their_rois = both(random_boxes(rng, num_slots, (288, 352)))
    truth, their_truth = both(random_boxes(rng, num_slots, (288, 352)))
    logits = rng.normal(0, 2, (num_slots, num_classes + 1)).astype(np.float32)
    deltas = rng.normal(0, 2, (num_slots, num_classes, 4)).astype(np.float32)
    labels = np.where(np.arange(num_slots) < 15, rng.integers(0, num_classes, num_slots), num_classes)
    valid = jnp.arange(num_slots) < num_filled
    outputs = stage_outputs(
        rois=RoIs(rois[None], jnp.zeros((1, num_slots)), valid[None]),
        targets=RoITargets(jnp.asarray(labels)[None], truth[None], jnp.arange(num_slots)[None], valid[None]),
        class_logits=jnp.asarray(logits)[None],
        box_deltas=jnp.asarray(deltas)[None],
    )
    rule = get_config().losses.to_dict() | {"roi_box_beta": 1 / 9}
    ours = roi_losses(outputs, rule)
    theirs = torchvision.models.detection.roi_heads.fastrcnn_loss(
        tensor(np.roll(logits, 1, axis=-1))[:num_filled],
        tensor(np.pad(deltas, ((0, 0), (1, 0), (0, 0))))[:num_filled].flatten(1),
        [tensor((labels + 1) % (num_classes + 1))[:num_filled]],
        [BoxCoder(stage.CODER_WEIGHTS).encode_single(their_truth, their_rois)[:num_filled]],
    )
    for name, loss in zip(("roi_class", "roi_box"), theirs, strict=True):
        record.near("losses", UNFILLED, ours[name], loss.item() * num_filled / num_slots)
