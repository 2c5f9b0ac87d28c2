"""The shape letters and the structs shared by all packages.

Letters, used throughout the project:

    b  images on this device           r  regions of interest (RoIs) per image
    h  padded input height, pixels     s  side of an RoI crop, cells
    w  padded input width, pixels      c  channels
    a  anchors over all levels         k  foreground classes; background is class k, the last
    g  ground-truth slots per image    m  Gaussian masks per RoI
    l  class logits, k + 1             d  detections per image
    n  any other count                 p  side of the predicted mask of an object, cells
                                       q  side of the stored true mask of an object, cells

`boxes` always means (x1, y1, x2, y2), float32, continuous pixel coordinates of the padded network input (the box of the
first pixel is (0, 0, 1, 1)). Variables in other coordinates have them in their names (`boxes_original`, `boxes_xywh`)
and occur only in `data` and `evaluation`. `valid` is True for slots with content and False for padding.
"""

from typing import Any, NamedTuple

import numpy as np
from jax import Array as JaxArray
from jaxtyping import Bool, Float, Int, UInt8

# Name of the device axis of a step. All code must use the same name: norms average their statistics over this axis.
DEVICE_AXIS = "devices"

# Host code fills the structs with numpy arrays, jitted code with jax arrays.
Array = JaxArray | np.ndarray


class Targets(NamedTuple):
    """Ground truth of a batch in padded slots. Invalid slots are zero."""

    boxes: Float[Array, "*b g 4"]
    labels: Int[Array, "*b g"]  # 0..k-1
    valid: Bool[Array, "*b g"]
    masks: UInt8[Array, "*b g q q"] | None = None  # inside each box: covered share of a cell, 0..255; only for masks
    has_mask: Bool[Array, "*b g"] | None = None  # False: no usable mask; the box counts, the mask loss leaves it out
    verified: Bool[Array, "*b k"] | None = None  # False: the image may show objects of the class without a box


class Batch(NamedTuple):
    """The input of a device. Image content is at the top left; the padding is zero."""

    images: UInt8[Array, "*b h w 3"]  # RGB
    image_hw: Float[Array, "*b 2"]  # height and width of the content, pixels of the padded input
    scale_hw: Float[Array, "*b 2"]  # resized / original, per axis; in evaluation boxes_original = boxes / scale
    targets: Targets
    index: Int[Array, "*b"]  # position of the image in its source; -1 in the padding slots of the last batch


class Samples(NamedTuple):
    """A fixed number of anchors or RoIs for the loss: positives first, then negatives, then invalid slots."""

    index: Int[Array, "*b n"]  # index of the anchor (RPN), or into proposals followed by ground truth (RoIs)
    positive: Bool[Array, "*b n"]
    valid: Bool[Array, "*b n"]
    matched: Int[Array, "*b n"]  # ground-truth slot; defined only for positives


class RoIs(NamedTuple):
    """Input regions of a RoI stage."""

    boxes: Float[Array, "*b r 4"]
    scores: Float[Array, "*b r"]  # objectness logit
    valid: Bool[Array, "*b r"]


class RoITargets(NamedTuple):
    """Targets of a RoI stage for each sampled RoI."""

    labels: Int[Array, "*b r"]  # 0..k-1, background k
    boxes: Float[Array, "*b r 4"]  # matched ground truth; defined only for labels < k
    matched: Int[Array, "*b r"]  # its ground-truth slot; defined only for labels < k
    valid: Bool[Array, "*b r"]
    verified: Bool[Array, "*b k"] | None = None  # as in Targets; None: all classes
    proposal_ious: Float[Array, "*b _"] | None = None  # largest IoU of each proposal with an object; -1: no proposal


class Gaussians(NamedTuple):
    """The m Gaussian masks of each RoI, in cells of the s x s crop (cell i covers [i, i + 1])."""

    centres: Float[Array, "*n m 2"]  # (x, y), in (0, s)
    sigmas: Float[Array, "*n m 2"]  # (x, y), at least 1
    masks: Float[Array, "*n m s s"]  # peak 1


class Attention(NamedTuple):
    """The result of an attention block for RoI crops."""

    fused: Float[Array, "*n s s c"]
    gaussians: Gaussians | None = None  # None for blocks without Gaussian masks
    guide_logits: Float[Array, "*n _ l"] | None = None  # only in training; None for blocks without a guide


class RPNOutputs(NamedTuple):
    """Predictions of the region proposal network for all anchors, concatenated over levels, finest first."""

    anchors: Float[Array, "a 4"]
    objectness: Float[Array, "b a"]  # logits
    deltas: Float[Array, "b a 4"]  # from each anchor to its proposal
    samples: Samples | None  # (t) the anchors in the loss


class StageOutputs(NamedTuple):
    """Predictions of one RoI stage for its regions."""

    rois: RoIs  # with targets, the sampled RoIs; without targets, all input RoIs
    targets: RoITargets | None  # (t)
    gaussians: Gaussians | None  # [b r m ...]; None for an attention without Gaussian masks
    guide_logits: Float[Array, "b r _ l"] | None  # (t) for all masks together or one per mask; None without a guide
    class_logits: Float[Array, "b r l"]
    box_deltas: Float[Array, "b r _ 4"]  # from each RoI to its box for each class, or one for all; times coder_weights
    coder_weights: Float[Array, "4"]


class MaskOutputs(NamedTuple):
    """(t) Predictions of the mask head for the positive RoIs of the last stage."""

    logits: Float[Array, "b r p p"]  # the mask of the true class inside each RoI
    targets: Float[Array, "b r p p"]  # the true mask inside each RoI, 0..1
    valid: Bool[Array, "b r"]  # RoIs in the loss: positive, and their object has a mask


class Outputs(NamedTuple):
    """All outputs of the detector. Fields marked (t) exist only with targets.

    Custom losses read these fields: the struct of each stage holds its regions, targets and logits.
    """

    rpn: RPNOutputs
    stages: tuple[StageOutputs, ...]  # one stage, or the stages of a cascade in order
    masks: MaskOutputs | None = None  # (t) None without a mask head
    pyramid: tuple[Float[Array, "b _ _ c"], ...] | None = None  # only without targets: for the masks of detections


class Detections(NamedTuple):
    """Final detections, highest score first. Boxes and Gaussian masks are in pixels of the padded input."""

    boxes: Float[Array, "*b d 4"]
    scores: Float[Array, "*b d"]
    labels: Int[Array, "*b d"]  # 0..k-1
    valid: Bool[Array, "*b d"]
    rois: Float[Array, "*b d 4"]  # the RoI of each detection; its masks are defined in this box
    mask_centres: Float[Array, "*b d m 2"]  # (x, y) pixels; m = 0 without Gaussian masks
    mask_sigmas: Float[Array, "*b d m 2"]  # (x, y) pixels
    masks: Float[Array, "*b d p p"]  # object mask: probability of each cell of the box; p = 0 without a mask head


class TrainState(NamedTuple):
    """The state of training. On devices every leaf is replicated without an extra axis."""

    step: Int[Array, ""]  # completed steps
    params: Any
    batch_stats: Any  # running statistics, and the constants of frozen batch norm
    opt_state: Any
    ema_params: Any  # None unless a moving average is kept
    dynamic: Any = None  # values of the RoI stage that follow the training; None: they are fixed
