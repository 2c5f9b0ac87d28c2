"""The pyramid and the head of the RPN give what their flax modules give."""

import jax
import jax.numpy as jnp
import numpy as np

from lga_jax.exporting.onnx_writer.pyramid import feature_pyramid, rpn_head
from lga_jax.models.fpn import FPN
from lga_jax.models.rpn import RPN
from tests.exporting.onnx_writer.running import channels_first, close, random_like, run, variables_of, weights_of

RNG = np.random.default_rng(0)
SIDES = ((13, 7), (7, 4), (4, 2))  # odd sides: upsampled maps are cut


def test_a_pyramid_of_odd_sides_with_norms():
    module = FPN(channels=16, strides=(4, 8, 16), norm="bn")
    features = [RNG.normal(size=(1, *side, 8)).astype(np.float32) for side in SIDES]
    variables = variables_of(module, features, False)
    expected = jax.jit(lambda v, x: module.apply(v, x, False))(variables, features)
    found = run(lambda *x: feature_pyramid(x, module, weights_of(variables)), *map(channels_first, features))
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        close(one, channels_first(other), 1e-4)


def test_objectness_and_deltas_in_the_order_of_the_anchors():
    ratios = dict(sizes=(8, 16, 32), aspect_ratios=(0.5, 1.0, 2.0), rounded=False, fixed_stride=True)
    module = RPN(num_convs=2, strides=(4, 8, 16), anchors=ratios, sampling={}, proposals={})
    pyramid = [RNG.normal(size=(1, *side, 8)).astype(np.float32) for side in SIDES]
    jax_pyramid = [jnp.asarray(x) for x in pyramid]
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jax_pyramid, method="predict"))
    variables = random_like(shapes)
    expected = jax.jit(lambda v, x: module.apply(v, x, method="predict"))(variables, pyramid)
    found = run(lambda *x: rpn_head(x, module, weights_of(variables)), *map(channels_first, pyramid))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        close(one, other[0], 1e-4)
