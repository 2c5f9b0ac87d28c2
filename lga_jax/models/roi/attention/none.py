"""No attention: plain Faster R-CNN."""

import flax.linen as nn
from jaxtyping import Float

from lga_jax.structs import Array, Attention


class NoAttention(nn.Module):
    """Plain Faster R-CNN: crops pass unchanged."""

    @nn.compact
    def __call__(self, crops: Float[Array, "*n s s c"]) -> Attention:
        return Attention(fused=crops, gaussians=None)
