"""Attentions on the features of RoIs as ONNX operators: a function for each of lga_jax.models.build.ATTENTIONS."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import numpy as np

from lga_jax.exporting.onnx_writer.graph import Tensor, concat
from lga_jax.exporting.onnx_writer.layers import Weights, conv, dense, pointwise, relu
from lga_jax.exporting.onnx_writer.roi_features import RoIFeatures
from lga_jax.models.roi.attention.cbam import CBAM
from lga_jax.models.roi.attention.close_ups import close_up_grid
from lga_jax.models.roi.attention.deformable import DeformablePooling, cell_points
from lga_jax.models.roi.attention.lga import LGAHead
from lga_jax.models.roi.attention.non_local import NonLocal
from lga_jax.models.roi.attention.none import NoAttention
from lga_jax.models.roi.attention.squeeze_excitation import SqueezeExcitation


class Attended(NamedTuple):
    """The result of an attention."""

    fused: Tensor  # [r c s s]
    centres: Tensor | None = None  # [r m 2], cells; None without Gaussian masks
    sigmas: Tensor | None = None


def lga(features: RoIFeatures, module: LGAHead, weights: Weights) -> Attended:
    """The LGA head without its guide."""
    crops = features.crops()
    count, size, masks = crops.shape[0], crops.shape[2], module.num_masks
    reduced = relu(pointwise(crops, weights / "reduce"))
    crop_shape = (size, size, reduced.shape[1])
    hidden = relu(dense(reduced.reshape(count, -1), weights / "hidden_layer", from_crop=crop_shape)).cast(np.float32)
    if module.mu == "softmax":
        places = _softmax_centres(reduced, weights / "centres")
    else:
        places = dense(hidden, weights / "centres").reshape(count, masks, 2)
    centres = (places.apply("Tanh") + 1.0) * (size / 2)
    sigmas = (relu(dense(hidden, weights / "sigmas")) + 1.0).reshape(count, masks, -1)
    if module.sigma == "isotropic":
        sigmas = concat([sigmas, sigmas], axis=2)
    gaussians = _gaussian_masks(centres, sigmas, size).cast(crops.dtype)
    fuse = _masked_concat if module.fusion == "concat" else _masked_sum
    fused = fuse(crops, gaussians, weights / "fuse")
    if module.guide_level == "close_up":
        details = _close_ups(features, centres, sigmas, size, module.close_up_points, weights / "close_ups")
        added = dense(details.reshape(count, -1), weights / "add_close_ups" / "project")
        fused = fused + added.reshape(count, -1, 1, 1)
    return Attended(fused, centres, sigmas)


def cbam(features: RoIFeatures, module: CBAM, weights: Weights) -> Attended:
    """CBAM."""
    crops = features.crops()
    count, channels = crops.shape[:2]
    cells = crops.reshape(count, channels, -1)
    gates = [
        dense(relu(dense(cells.reduce(kind, 2), weights / "squeeze")), weights / "excite") for kind in ("Mean", "Max")
    ]
    x = crops * (gates[0] + gates[1]).apply("Sigmoid").reshape(count, channels, 1, 1)
    descriptor = concat([x.reduce("Mean", 1, keepdims=True), x.reduce("Max", 1, keepdims=True)], axis=1)
    spatial = weights / "Conv_0"
    padding = ((module.kernel_size - 1) // 2, module.kernel_size // 2)
    gate = conv(descriptor, spatial.param("kernel"), spatial.param("bias"), padding=(padding, padding))
    return Attended(x * gate.apply("Sigmoid"))


def non_local(features: RoIFeatures, module: NonLocal, weights: Weights) -> Attended:
    """The non-local block."""
    crops = features.crops()
    count, _, height, width = crops.shape

    def cells(name: str) -> Tensor:
        projected = pointwise(crops, weights / name)
        return projected.reshape(count, projected.shape[1], height * width)

    affinity = (cells("query").transpose(0, 2, 1) @ cells("key")).cast(np.float32)
    affinity = affinity.apply("Softmax", axis=2).cast(crops.dtype)
    gathered = cells("value") @ affinity.transpose(0, 2, 1)  # [r inner cells]
    return Attended(crops + pointwise(gathered.reshape(count, -1, height, width), weights / "output"))


def squeeze_excitation(features: RoIFeatures, module: SqueezeExcitation, weights: Weights) -> Attended:
    """Squeeze-and-excitation."""
    crops = features.crops()
    count, channels = crops.shape[:2]
    mean = crops.reshape(count, channels, -1).reduce("Mean", 2)
    gate = dense(relu(dense(mean, weights / "squeeze")), weights / "excite").apply("Sigmoid")
    return Attended(crops * gate.reshape(count, channels, 1, 1))


def deformable(features: RoIFeatures, module: DeformablePooling, weights: Weights) -> Attended:
    """Deformable RoI pooling."""
    crops = features.crops()
    count, channels, size, _ = crops.shape
    hidden = relu(dense(crops.reshape(count, -1), weights / "hidden", from_crop=(size, size, channels))).cast(
        np.float32
    )
    offsets = dense(hidden, weights / "offsets").reshape(count, size**2, 2) * module.scale
    points = [features.points("pyramid", offsets + places) for places in cell_points(size, module.samples)]
    fused = sum(points[1:], start=points[0]) * (1.0 / len(points))
    if module.modulated:
        gates = (dense(hidden, weights / "gates").apply("Sigmoid") * 2.0).cast(crops.dtype)
        fused = fused * gates.reshape(count, 1, size**2)
    return Attended(fused.reshape(count, channels, size, size))


def no_attention(features: RoIFeatures, module: NoAttention, weights: Weights) -> Attended:
    """The crops."""
    return Attended(features.crops())


def _softmax_centres(reduced: Tensor, weights: Weights) -> Tensor:
    """Mean positions [r m 2] of the heat maps, before the tanh."""
    count, size = reduced.shape[0], reduced.shape[2]
    heat = pointwise(reduced, weights / "heat").cast(np.float32) + weights.param("places").transpose(2, 0, 1)
    share = heat.reshape(count, heat.shape[1], size * size).apply("Softmax", axis=2)
    cells = (2.0 * np.arange(size) + 1.0) / size - 1.0
    positions = np.stack(np.meshgrid(cells, cells), axis=-1).reshape(size * size, 2)
    return (share @ share.constant(positions)) * weights.param("stretch")


def _gaussian_masks(centres: Tensor, sigmas: Tensor, size: int) -> Tensor:
    """Masks [r m s s]."""
    count, masks = centres.shape[:2]
    cells = centres.graph.constant(np.arange(size) + 0.5)
    distance = (cells - centres.reshape(count, masks, 2, 1)) / sigmas.reshape(count, masks, 2, 1)
    profile = (distance * distance * -0.5).apply("Exp")
    x, y = profile.slice(2, 0, 1), profile.slice(2, 1, 2)
    return y.reshape(count, masks, size, 1) * x.reshape(count, masks, 1, size)


def _close_ups(
    features: RoIFeatures, centres: Tensor, sigmas: Tensor, size: int, points: int, weights: Weights
) -> Tensor:
    """Descriptions [r m f] of the regions of the masks."""
    count, masks = centres.shape[:2]
    grid = close_up_grid(points)
    offsets = sigmas.reshape(count, masks, 1, 2) * centres.graph.constant(grid)
    places = (centres.reshape(count, masks, 1, 2) + offsets).reshape(count, -1, 2) * (1.0 / size)
    read = relu(features.points("c2", places, finer=1, through=lambda x: pointwise(x, weights / "reduce")))
    details = read.reshape(count, -1, masks, len(grid)).transpose(0, 2, 3, 1)
    return relu(dense(details.reshape(count, masks, -1), weights / "hidden"))


def _masked_sum(crops: Tensor, masks: Tensor, weights: Weights) -> Tensor:
    return crops * (masks.reduce("Mean", 1, keepdims=True) + 1.0)


def _masked_concat(crops: Tensor, masks: Tensor, weights: Weights) -> Tensor:
    kernel = weights.param("kernel")
    total = conv(crops, kernel[0][None, None], weights.param("bias"))
    for number in range(masks.shape[1]):
        total = total + conv(crops, kernel[1 + number][None, None]) * masks.slice(1, number, number + 1)
    return relu(total)


ATTENTIONS: dict[type[nn.Module], Callable[..., Attended]] = {
    LGAHead: lga,
    CBAM: cbam,
    NonLocal: non_local,
    SqueezeExcitation: squeeze_excitation,
    DeformablePooling: deformable,
    NoAttention: no_attention,
}
