"""No attention: plain Faster R-CNN."""

import flax.linen as nn

from lga_jax.models.roi.attention import Crop
from lga_jax.structs import Attention


class NoAttention(nn.Module):
    """Plain Faster R-CNN: crops pass unchanged."""

    def __call__(self, crop: Crop, train: bool) -> Attention:
        return Attention(fused=crop("pyramid"))
