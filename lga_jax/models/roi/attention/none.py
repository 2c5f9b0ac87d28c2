"""No attention: plain Faster R-CNN."""

import flax.linen as nn

from lga_jax.models.roi.attention import Crop
from lga_jax.structs import Attention


class NoAttention(nn.Module):
    """Returns the crops unchanged: plain Faster R-CNN."""

    def __call__(self, crop: Crop, train: bool) -> Attention:
        return Attention(fused=crop("pyramid"))
