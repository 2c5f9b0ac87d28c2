import numpy as np

from lga_jax.checkpoints.damage import digest


def test_digest_knows_names_shapes_and_bits():
    tree = {"a": np.zeros(4, np.float32)}
    others = [{"b": tree["a"]}, {"a": tree["a"].reshape(2, 2)}, {"a": np.float32([0, 0, 0, 1e-45])}]
    assert len({digest(other) for other in [tree, *others]}) == 4
    assert digest(tree) == digest({"a": np.zeros(4, np.float32)})
