"""The loss-guided attention (LGA) head: Gaussian masks predicted from RoI features (paper section III-B).

With the literal reading of the paper (mu "dense", classifier "shared", guide_level "pyramid"), all masks of a RoI
converge to one place, away from the part that identifies the class. docs/study.md measures the cause and the effect of
the other options.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lga_jax.models.layers import Dense, xavier_caffe2
from lga_jax.models.roi.attention import Crop, RoIFeatures
from lga_jax.models.roi.attention.close_ups import AddCloseUps, CloseUps
from lga_jax.ops.gaussian import gaussian_masks
from lga_jax.structs import Attention, Gaussians


class LGAHead(nn.Module):
    """Predicts `num_masks` Gaussian masks for each RoI crop, and fuses what they highlight with the original.

    What a mask highlights is the masked crop; with guide_level "close_up" also its region in finer features, which the
    guide then classifies.
    """

    num_masks: int
    reduced_channels: int
    hidden: int
    mu: str  # f_c of eq. 1 for the centres: "dense", or "softmax" over the cells
    sigma: str  # "isotropic" or "per_axis"
    fusion: str  # "sum" or "concat"
    classifier: str  # classifier of the guide: "joint" for all masks together, or "shared" for each mask separately
    # What the guide classifies: masked averages of "pyramid", the crops, or of "c2", crops of the backbone's first
    # stage; or "close_up", the close-ups of the masks.
    guide_level: str
    close_up_points: int  # points per side of a close-up
    close_up_channels: int  # of each point, and of the description of a close-up
    num_classes: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        small = nn.initializers.normal(0.01)
        self.reduce = Dense(self.reduced_channels, kernel_init=xavier_caffe2, dtype=self.dtype)  # f_d
        self.hidden_layer = Dense(self.hidden, kernel_init=xavier_caffe2, dtype=self.dtype)  # f_c's hidden layer
        if self.mu == "softmax":
            self.centres = SoftmaxCentres(self.num_masks)
        else:
            self.centres = nn.Dense(2 * self.num_masks, kernel_init=small, bias_init=_centres_apart)
        # The bias keeps the initial ReLU input positive: with a negative input, sigma has no gradient and stays at 1.
        sigmas_per_mask = 2 if self.sigma == "per_axis" else 1
        self.sigmas = nn.Dense(
            sigmas_per_mask * self.num_masks, kernel_init=small, bias_init=nn.initializers.constant(0.5)
        )
        self.guide_classes = nn.Dense(self.num_classes + 1, kernel_init=small)
        if self.guide_level == "close_up":
            self.close_ups = CloseUps(self.close_up_points, self.close_up_channels, self.dtype)
            self.add_close_ups = AddCloseUps(self.dtype)
        if self.fusion == "concat":
            self.fuse = MaskedConcat(dtype=self.dtype)

    def __call__(self, crop: Crop | RoIFeatures, train: bool) -> Attention:
        """`crop`: RoIFeatures for close-ups, which read points."""
        crops = crop("pyramid")
        gaussians = self.predict_gaussians(crops)
        fused = self.highlight(crops, gaussians.masks)
        if self.guide_level == "close_up":
            details = self.look_closer(crop, gaussians)
            fused = self.add_close_ups(fused, details)
        if not train:
            return Attention(fused, gaussians)
        if self.guide_level == "close_up":
            return Attention(fused, gaussians, self.classify(details.astype(jnp.float32)))
        seen = crops if self.guide_level == "pyramid" else crop(self.guide_level)
        return Attention(fused, gaussians, self.guide(seen, gaussians.masks))

    def look_closer(self, crop: RoIFeatures, gaussians: Gaussians) -> Float[Array, "*n m _"]:
        """A description of the region of each mask, from finer features than the crop's."""
        return self.close_ups(crop, gaussians)

    def highlight(self, crops: Float[Array, "*n s s c"], masks: Float[Array, "*n m s s"]) -> Float[Array, "*n _ _ c"]:
        """The crops fused with the masked crops (section III-B-3)."""
        masks = masks.astype(crops.dtype)
        if self.fusion == "concat":
            return self.fuse(crops, masks)
        # x + mean_k(x M_k) = x (1 + mean_k M_k), without masked maps in memory.
        return crops * (1.0 + masks.mean(axis=-3))[..., None]

    def predict_gaussians(self, crops: Float[Array, "*n s s c"]) -> Gaussians:
        """Eq. 1: mu = S_ratio tanh(f_c(f_d(x))), sigma = ReLU(f_c(f_d(x))) + 1.

        The origin of mu is the middle of the crop and S_ratio = s / 2, so centres lie in (0, s).
        """
        size = crops.shape[-2]
        reduced = nn.relu(self.reduce(crops))
        hidden = nn.relu(self.hidden_layer(reduced.reshape(*reduced.shape[:-3], -1))).astype(jnp.float32)
        per_mask = (*hidden.shape[:-1], self.num_masks, -1)
        places = self.centres(reduced) if self.mu == "softmax" else self.centres(hidden).reshape(per_mask)
        centres = size / 2 * (1.0 + jnp.tanh(places))
        sigmas = jnp.broadcast_to(self.sigma_of(self.sigmas(hidden)).reshape(per_mask), centres.shape)
        return Gaussians(centres=centres, sigmas=sigmas, masks=gaussian_masks(centres, sigmas, size))

    def sigma_of(self, predicted: Float[Array, "*n _"]) -> Float[Array, "*n _"]:
        return nn.relu(predicted) + 1.0

    def guide(self, crops: Float[Array, "*n s s c"], masks: Float[Array, "*n m s s"]) -> Float[Array, "*n _ l"]:
        """Class logits from the masked averages (section III-B-2) of crops from `guide_level`."""
        return self.classify(masked_averages(crops, masks))

    def classify(self, highlighted: Float[Array, "*n m c"]) -> Float[Array, "*n _ l"]:
        """Class logits from what each mask highlights, computed by one linear layer.

        The result is [*n 1 l] with "joint", for all masks of a RoI together, or [*n m l] with "shared", one per mask.
        """
        if self.classifier == "joint":
            highlighted = highlighted.reshape(*highlighted.shape[:-2], 1, -1)
        return self.guide_classes(highlighted)


def masked_averages(crops: Float[Array, "*n s s c"], masks: Float[Array, "*n m s s"]) -> Float[Array, "*n m c"]:
    """The averages of the crop weighted by each mask, float32.

    One product computes them without m masked maps in memory.
    """
    return _masked_sums(crops, masks) / masks.sum(axis=(-2, -1))[..., None]


@jax.custom_vjp
def _masked_sums(crops: Float[Array, "*n s s c"], masks: Float[Array, "*n m s s"]) -> Float[Array, "*n m c"]:
    """Products in the dtype of the crops with float32 sums. Masks, their gradient and the result are float32."""
    return jnp.einsum("...ijc,...mij->...mc", crops, masks.astype(crops.dtype), preferred_element_type=jnp.float32)


def _masked_sums_backward(saved: tuple[Array, Array], gradient: Float[Array, "*n m c"]) -> tuple[Array, Array]:
    """Gradients with the crops as left operand. JAX's own gradient has them on the right, where XLA's CPU backend makes
    a transposed copy, nearly half of the temporary memory of LGA."""
    crops, masks = saved
    gradient = gradient.astype(crops.dtype)
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    crop_gradient = product("...mij,...mc->...ijc", masks.astype(crops.dtype), gradient)
    return crop_gradient.astype(crops.dtype), jnp.moveaxis(product("...ijc,...mc->...ijm", crops, gradient), -1, -3)


_masked_sums.defvjp(lambda crops, masks: (_masked_sums(crops, masks), (crops, masks)), _masked_sums_backward)


class SoftmaxCentres(nn.Module):
    """f_c for the centres, before the tanh of eq. 1: the mean position of a heat map per mask.

    The heat map is a 1x1 convolution of the reduced crop with a softmax over the cells, so a mask moves to the features
    with a high response anywhere in the crop. A learned map of positions is added; it starts with bumps evenly spaced
    on a circle around the middle, one per mask.
    """

    num_masks: int

    @nn.compact
    def __call__(self, reduced: Float[Array, "*n s s c"]) -> Float[Array, "*n m 2"]:
        size = reduced.shape[-2]
        cells = (2.0 * np.arange(size) + 1.0) / size - 1.0  # -1 and 1 are the edges of the crop

        def places(key: Array, shape: Sequence[int]) -> Float[Array, "s s m"]:
            x, y = np.moveaxis(_circle(self.num_masks), -1, 0)
            squared = (cells[:, None, None] - y) ** 2 + (cells[:, None] - x) ** 2
            return jnp.asarray(-squared / (2 * 0.4**2), jnp.float32)

        heat = nn.Dense(self.num_masks, use_bias=False, kernel_init=nn.initializers.normal(0.01), name="heat")
        # Joined with the transposition of its gradient, this product fits no tiles of a GPU.
        heat = jax.lax.optimization_barrier(heat(reduced.reshape(-1, reduced.shape[-1])))
        heat = heat.reshape(*reduced.shape[:-1], self.num_masks)
        heat = heat.astype(jnp.float32) + self.param("places", places, (size, size, self.num_masks))
        share = jax.nn.softmax(heat.reshape(*heat.shape[:-3], -1, self.num_masks), axis=-2).reshape(heat.shape)
        # Two weighted sums: a product with two columns is no matrix product for a GPU.
        mean = jnp.stack([(share * c).sum((-3, -2)) for c in (cells[:, None], cells[:, None, None])], axis=-1)
        # A mean over cells cannot pass the outermost cell centres, and the tanh moves it further inwards.
        return self.param("stretch", nn.initializers.constant(1.25), (self.num_masks, 2)) * mean


class MaskedConcat(nn.Module):
    """1x1 convolution of the concatenation [x, x M_1, .., x M_m] to the channels of x.

    A mask is one number per cell, so it commutes with the convolution: the product of x with each block of the kernel
    is weighted with 1, M_1 .. M_m. The concatenation is not stored.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n s s c"], masks: Float[Array, "*n m s s"]) -> Float[Array, "*n s s c"]:
        num_masks, channels = masks.shape[-3], x.shape[-1]
        kernel = self.param("kernel", xavier_caffe2, (1 + num_masks, channels, channels)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,)).astype(self.dtype)
        total = x @ kernel[0] + bias
        for i in range(num_masks):
            total += (x @ kernel[1 + i]) * masks[..., i, :, :, None]
        return nn.relu(total)


def _centres_apart(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Float[Array, "_"]:
    """Bias of f_c with different initial centres for the m masks: its tanh is `_circle`."""
    return jnp.asarray(np.arctanh(_circle(shape[0] // 2)).reshape(-1), dtype)


def _circle(num_masks: int) -> Float[np.ndarray, "m 2"]:
    """(x, y) in units of S_ratio, evenly spaced on a circle with radius 0.6 around the middle; a single mask: (0, 0).

    "After initialized, different Gaussian masks pay attention to different regions" (section III-B-2).
    """
    angles = 2.0 * np.pi * np.arange(num_masks) / num_masks + np.pi / 4.0
    radius = 0.6 if num_masks > 1 else 0.0
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
