"""A block of EfficientNet-Lite, written from its description with slow convolutions."""

import numpy as np

from tests.reference.conv import same_conv2d


def inverted_residual(x, variables, stride, epsilon) -> np.ndarray:
    """`variables`: of the block, with frozen batch norm."""
    kernels, norms = variables["params"], variables["batch_stats"]

    def normalised(y, name):
        norm = norms[name]["bn"]
        return (y - norm["mean"]) / np.sqrt(norm["var"] + epsilon) * norm["scale"] + norm["bias"]

    y = x
    if "expand" in kernels:
        y = np.clip(normalised(same_conv2d(y, kernels["expand"]["kernel"], 1), "expand_norm"), 0, 6)
    y = same_conv2d(y, kernels["depthwise"]["kernel"], stride, groups=y.shape[-1])
    y = np.clip(normalised(y, "depthwise_norm"), 0, 6)
    y = normalised(same_conv2d(y, kernels["project"]["kernel"], 1), "project_norm")
    return x + y if x.shape == y.shape else y
