"""LGA R-CNN in JAX: Faster R-CNN with FPN and a loss-guided Gaussian attention head."""
