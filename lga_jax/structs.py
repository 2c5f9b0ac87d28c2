"""The shape-letter legend and the structs that flow between the stages.

Letters, the same everywhere in the project:

    b  images on this device           r  regions of interest (RoIs) per image
    h  padded input height, pixels     s  side of an RoI crop, cells
    w  padded input width, pixels      c  channels
    a  anchors over all levels         k  foreground classes; background is class k, the last
    g  ground-truth slots per image    m  Gaussian masks per RoI
    l  class logits, k + 1             d  detections per image
    n  any other count

`boxes` always means (x1, y1, x2, y2), float32, continuous pixel coordinates of the padded network input (a box that
covers the whole first pixel is (0, 0, 1, 1)). Any other frame has its name in the variable (`boxes_original`,
`boxes_xywh`) and stands only where arrays enter or leave: in `data` and in `evaluation`.
Masks are positive: `valid` is True where a slot holds something real.
"""

from typing import Any, NamedTuple

import numpy as np
from jax import Array as JaxArray
from jaxtyping import Bool, Float, Int, UInt8

# Name of the axis along which a step is spread over the devices; one spelling, or statistics and caches go apart.
DEVICE_AXIS = "devices"

# Host code hands numpy arrays to the same structs that jitted code fills with jax arrays.
Array = JaxArray | np.ndarray


class Targets(NamedTuple):
    """Ground truth of a batch in padded slots. Slots with `valid` False are all zero."""

    boxes: Float[Array, "*b g 4"]
    labels: Int[Array, "*b g"]  # 0..k-1
    valid: Bool[Array, "*b g"]


class Batch(NamedTuple):
    """What the loader hands to a device. Content is top-left aligned; the padding is zero."""

    images: UInt8[Array, "*b h w 3"]  # RGB
    image_hw: Float[Array, "*b 2"]  # height and width of the content, pixels of the padded input
    scale_hw: Float[Array, "*b 2"]  # resized / original, per axis; in evaluation boxes_original = boxes / scale
    targets: Targets
    index: Int[Array, "*b"]  # position of the image in its source; -1 in slots that only fill the last batch


class Samples(NamedTuple):
    """A fixed number of anchors or RoIs drawn for the loss: positives first, then negatives, then invalid slots."""

    index: Int[Array, "*b n"]  # into the anchors (RPN) or the proposals-and-ground-truth list (RoIs)
    positive: Bool[Array, "*b n"]
    valid: Bool[Array, "*b n"]
    matched: Int[Array, "*b n"]  # ground-truth slot; meaningful only where positive


class RoIs(NamedTuple):
    """Regions that a RoI stage works on."""

    boxes: Float[Array, "*b r 4"]
    scores: Float[Array, "*b r"]  # objectness logit
    valid: Bool[Array, "*b r"]


class RoITargets(NamedTuple):
    """What a RoI stage should answer for each sampled RoI."""

    labels: Int[Array, "*b r"]  # 0..k-1, background k
    boxes: Float[Array, "*b r 4"]  # matched ground truth; meaningful only where labels < k
    valid: Bool[Array, "*b r"]


class Gaussians(NamedTuple):
    """The m Gaussian masks of each RoI, in cells of the s x s crop (cell i covers [i, i + 1])."""

    centres: Float[Array, "*n m 2"]  # (x, y), in (0, s)
    sigmas: Float[Array, "*n m 2"]  # (x, y), at least 1
    masks: Float[Array, "*n m s s"]  # peak 1


class Attention(NamedTuple):
    """What an attention block returns for RoI crops."""

    fused: Float[Array, "*n s s c"]
    gaussians: Gaussians | None = None  # None for blocks without Gaussian masks
    guide_logits: Float[Array, "*n _ l"] | None = None  # only in training; None for blocks without a guide


class RPNOutputs(NamedTuple):
    """Answers of the region proposal network for all anchors, levels one after the other, finest first."""

    anchors: Float[Array, "a 4"]
    objectness: Float[Array, "b a"]  # logits
    deltas: Float[Array, "b a 4"]  # from each anchor to its proposal
    samples: Samples | None  # (t) the anchors that enter the loss


class StageOutputs(NamedTuple):
    """Answers of one RoI stage for its regions."""

    rois: RoIs  # (t): the sampled ones; without targets all that the stage was given
    targets: RoITargets | None  # (t)
    gaussians: Gaussians | None  # [b r m ...]; None for an attention without Gaussian masks
    guide_logits: Float[Array, "b r _ l"] | None  # (t), of all masks together or of each; None without a guide
    class_logits: Float[Array, "b r l"]
    box_deltas: Float[Array, "b r k 4"]  # from each RoI to the box of each class, multiplied by coder_weights
    coder_weights: Float[Array, "4"]


class Outputs(NamedTuple):
    """Everything the detector computes. The same struct with and without targets; fields marked (t) need targets.

    A loss of your own reads these fields: regions, targets and logits of each stage stand side by side in its struct.
    """

    rpn: RPNOutputs
    stages: tuple[StageOutputs, ...]  # one, or those of a cascade in their order
    masks: None = None  # no mask head yet


class Detections(NamedTuple):
    """Final answer, best score first. Boxes and mask geometry in pixels of the padded input."""

    boxes: Float[Array, "*b d 4"]
    scores: Float[Array, "*b d"]
    labels: Int[Array, "*b d"]  # 0..k-1
    valid: Bool[Array, "*b d"]
    rois: Float[Array, "*b d 4"]  # the RoI that each detection was read from; its masks live in this box
    mask_centres: Float[Array, "*b d m 2"]  # (x, y) pixels; m = 0 without Gaussian masks
    mask_sigmas: Float[Array, "*b d m 2"]  # (x, y) pixels


class TrainState(NamedTuple):
    """Everything that changes during training. On devices every leaf is replicated and has its ordinary shape."""

    step: Int[Array, ""]  # steps done
    params: Any
    batch_stats: Any  # running statistics, and the constants of frozen batch norm
    opt_state: Any
    ema_params: Any  # None unless a moving average is kept
