"""Region proposal network (Ren et al. 2015) over a pyramid: head, proposal selection, anchor sampling, losses."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from lga_jax.models.layers import Conv, ConvWeights
from lga_jax.ops import boxes as box_ops
from lga_jax.ops.anchors import pyramid_anchors
from lga_jax.ops.cpu import conv2d
from lga_jax.ops.iou_losses import iou_loss
from lga_jax.ops.matching import match
from lga_jax.ops.nms import nms
from lga_jax.ops.sampling import sample_balanced
from lga_jax.ops.topk import top_k
from lga_jax.structs import RoIs, RPNOutputs, Samples, Targets

CODER_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class RPN(nn.Module):
    """Predicts proposals: regions that may contain an object."""

    num_convs: int
    strides: tuple[int, ...]  # strides of the pyramid levels
    anchors: Mapping[str, Any]  # arguments of ops.anchors.pyramid_anchors
    sampling: Mapping[str, Any]  # arguments of sample_anchors
    proposals: Mapping[str, Any]  # arguments of select_proposals; separate pre_nms and post_nms for training and test
    dtype: Any = jnp.float32

    def __call__(
        self,
        pyramid: list[Float[Array, "b _ _ c"]],
        padded_hw: tuple[int, int],
        image_hw: Float[Array, "b 2"],
        targets: Targets | None,
        keys: Key[Array, "b"] | None,
    ) -> tuple[RPNOutputs, RoIs]:
        """Predictions for all anchors, and the best proposals of each image."""
        objectness, deltas = self.predict(pyramid)
        anchors = pyramid_anchors(padded_hw, [x.shape[1:3] for x in pyramid], self.strides, **self.anchors)
        rois = self.propose(objectness, deltas, anchors, image_hw, train=targets is not None)
        all_anchors = jnp.concatenate(anchors)
        samples = None
        if targets is not None:
            sample = jax.vmap(lambda key, truth: sample_anchors(key, all_anchors, truth, **self.sampling))
            samples = sample(keys, targets)
        outputs = RPNOutputs(all_anchors, jnp.concatenate(objectness, axis=1), jnp.concatenate(deltas, axis=1), samples)
        return outputs, rois

    @nn.compact
    def predict(
        self, pyramid: list[Float[Array, "b _ _ c"]]
    ) -> tuple[list[Float[Array, "b _"]], list[Float[Array, "b _ 4"]]]:
        """An objectness logit and box deltas for each anchor; the same weights serve every level."""
        anchors_per_cell = len(self.anchors["aspect_ratios"])
        init = nn.initializers.normal(0.01)
        channels = pyramid[0].shape[-1]
        convs = [
            Conv(channels, 3, kernel_init=init, dtype=self.dtype, name=f"conv{i}") for i in range(1, self.num_convs + 1)
        ]
        heads = [
            ConvWeights(size, init, self.dtype, name=name)(channels)
            for name, size in (("objectness", anchors_per_cell), ("deltas", 4 * anchors_per_cell))
        ]
        # Both heads are one product: each of them would read the features, and its gradient write them.
        kernel, bias = (jnp.concatenate(parts, axis=-1) for parts in zip(*heads, strict=True))
        all_objectness, all_deltas = [], []
        for x in pyramid:
            for conv in convs:
                x = nn.relu(conv(x))
            # With one kernel for all levels, XLA's GPU compiler copies the features of all levels into one array.
            kernel, bias = jax.lax.optimization_barrier((kernel, bias))
            both = (conv2d(x.astype(self.dtype), kernel) + bias).astype(jnp.float32)
            objectness, deltas = jnp.split(both, [anchors_per_cell], axis=-1)
            all_objectness.append(objectness.reshape(x.shape[0], -1))
            all_deltas.append(deltas.reshape(x.shape[0], -1, 4))
        return all_objectness, all_deltas

    def propose(
        self,
        objectness: list[Float[Array, "b _"]],
        deltas: list[Float[Array, "b _ 4"]],
        anchors: list[Float[Array, "_ 4"]],
        image_hw: Float[Array, "b 2"],
        train: bool,
    ) -> RoIs:
        """The proposals of each image. No gradient flows back through them."""
        rule, mode = self.proposals, "train" if train else "test"
        select = jax.vmap(
            lambda scores, moves, hw: select_proposals(
                scores,
                moves,
                anchors,
                hw,
                pre_nms=rule[f"pre_nms_{mode}"],
                post_nms=rule[f"post_nms_{mode}"],
                nms_iou=rule["nms_iou"],
                min_size=rule["min_size"],
            )
        )
        return select(*jax.lax.stop_gradient((objectness, deltas)), image_hw)


def select_proposals(
    objectness: list[Float[Array, "_"]],
    deltas: list[Float[Array, "_ 4"]],
    anchors: list[Float[Array, "_ 4"]],
    image_hw: Float[Array, "2"],
    *,
    pre_nms: int,
    post_nms: int,
    nms_iou: float,
    min_size: float,
) -> RoIs:
    """Proposals of one image: the top `pre_nms` anchors of each level, NMS within the level, the top `post_nms` of all.

    Boxes with a side of at most min_size pixels after clipping are dropped. Unused slots are zero and invalid.
    """
    width = min(pre_nms, max(level.shape[0] for level in objectness))
    all_boxes, all_scores = [], []
    for level_objectness, level_deltas, level_anchors in zip(objectness, deltas, anchors, strict=True):
        scores, index = top_k(level_objectness, min(width, level_objectness.shape[0]))
        boxes = box_ops.decode(level_deltas[index], level_anchors[index], CODER_WEIGHTS)
        boxes = box_ops.clip(boxes, image_hw)
        large = jnp.all(boxes[:, 2:] - boxes[:, :2] > min_size, axis=1)
        # Comparisons with nan are False, so this also drops boxes that are not finite.
        scores = jnp.where(large & jnp.isfinite(scores), scores, -jnp.inf)
        padding = width - scores.shape[0]
        all_boxes.append(jnp.pad(boxes, ((0, padding), (0, 0))))
        all_scores.append(jnp.pad(scores, (0, padding), constant_values=-jnp.inf))
    # Stacked levels need one NMS loop per image instead of one per level.
    boxes, scores = jnp.stack(all_boxes), jnp.stack(all_scores)
    keep = jax.vmap(lambda b, s: nms(b, s, nms_iou))(boxes, scores)
    scores = jnp.where(keep, scores, -jnp.inf).reshape(-1)
    scores, index = jax.lax.top_k(scores, min(post_nms, scores.shape[0]))
    valid = scores > -jnp.inf
    return RoIs(
        boxes=jnp.where(valid[:, None], boxes.reshape(-1, 4)[index], 0.0),
        scores=jnp.where(valid, scores, 0.0),
        valid=valid,
    )


def sample_anchors(
    key: Key[Array, ""],
    anchors: Float[Array, "a 4"],
    targets: Targets,
    *,
    num_samples: int,
    positive_fraction: float,
    positive_iou: float,
    negative_iou: float,
) -> Samples:
    """Draws the anchors of one image for the RPN loss."""
    found = match(
        anchors,
        targets.boxes,
        targets.valid,
        positive_iou=positive_iou,
        negative_iou=negative_iou,
        low_quality=True,
    )
    return sample_balanced(
        key,
        found.positive,
        found.negative,
        found.matched,
        num_samples=num_samples,
        positive_fraction=positive_fraction,
    )


def rpn_losses(outputs: RPNOutputs, targets: Targets, kind: str, beta: float) -> dict[str, Float[Array, ""]]:
    """Binary cross-entropy of the sampled anchors, and the box loss of positive anchors.

    Both are divided by the number of sample slots.

    Args:
        outputs: the outputs of the RPN with targets.
        targets: the same targets.
        kind: "l1" on the deltas, or "giou", "diou", "ciou" on the boxes.
        beta: only for "l1": the transition of smooth L1; 0 is plain L1.
    """
    samples = outputs.samples
    objectness = jnp.take_along_axis(outputs.objectness, samples.index, axis=1)
    deltas = jnp.take_along_axis(outputs.deltas, samples.index[..., None], axis=1)
    matched = jnp.take_along_axis(targets.boxes, samples.matched[..., None], axis=1)
    anchors = outputs.anchors[samples.index]

    entropy = optax.sigmoid_binary_cross_entropy(objectness, samples.positive)
    if kind == "l1":
        distance = box_ops.smooth_l1(deltas - box_ops.encode(matched, anchors, CODER_WEIGHTS), beta).sum(axis=-1)
    else:
        distance = iou_loss(box_ops.decode(deltas, anchors, CODER_WEIGHTS), matched, kind)
    return {
        "rpn_objectness": jnp.mean(jnp.where(samples.valid, entropy, 0.0)),
        "rpn_box": jnp.mean(jnp.where(samples.positive, distance, 0.0)),
    }
