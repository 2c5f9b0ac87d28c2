from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.models.backbones.resnet import ResidualBlock, ResNet
from lga_jax.models.freezing import frozen_labels
from lga_jax.structs import DEVICE_AXIS

# Parameters of torchvision's networks without the classifier (published totals minus the last layer). Frozen batch
# norm keeps scale and bias among the statistics, hence the count over both collections less mean and variance.
WITHOUT_CLASSIFIER = {
    18: 11_689_512 - 513_000,
    34: 21_797_672 - 513_000,
    50: 25_557_032 - 2_049_000,
    101: 44_549_160 - 2_049_000,
    152: 60_192_808 - 2_049_000,
}


def resnet_shapes(depth, norm="frozen_bn", hw=(64, 64)):
    net = ResNet(depth=depth, width=64, norm=norm, frozen_stages=0)
    image = jax.ShapeDtypeStruct((1, *hw, 3), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda k, x: net.init_with_output(k, x, False), key, image)


def test_the_stride_of_a_bottleneck_may_stand_in_either_convolution():
    """A strided 1x1 sees every second row of its input only, a strided 3x3 all of them."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 4)), jnp.float32)
    rule = dict(width=4, stride=2, kind="bottleneck", norm="frozen_bn", norm_eps=1e-5, dtype=jnp.float32)
    for stride_in_1x1 in (False, True):
        block = ResidualBlock(**rule, stride_in_1x1=stride_in_1x1)
        variables = block.init(jax.random.key(0), x, False)
        assert block.apply(variables, x, False).shape == (1, 4, 4, 16)
        gradient = jax.grad(lambda x, block=block, variables=variables: block.apply(variables, x, False).sum())(x)
        assert bool(gradient[0, 1::2].any()) is not stride_in_1x1


@pytest.mark.parametrize("depth", WITHOUT_CLASSIFIER)
def test_has_torchvisions_parameters(depth):
    _, variables = resnet_shapes(depth)
    sizes = jax.tree_util.tree_leaves_with_path(variables)
    count = sum(leaf.size for path, leaf in sizes if path[-1].key not in ("mean", "var"))
    assert count == WITHOUT_CLASSIFIER[depth]


def test_features_halve_in_size_and_double_in_channels():
    features, _ = resnet_shapes(50, hw=(64, 96))
    assert [f.shape for f in features] == [(1, 16, 24, 256), (1, 8, 12, 512), (1, 4, 6, 1024), (1, 2, 3, 2048)]


def test_parameters_are_in_the_parts_from_which_they_are_named():
    assert ResNet.part_of(("conv1", "kernel")) == 0 and ResNet.part_of(("norm1", "bn", "scale")) == 0
    assert [ResNet.part_of((f"layer{stage}_3", "conv1", "kernel")) for stage in range(1, 5)] == [1, 2, 3, 4]


@pytest.mark.parametrize("frozen_stages", [0, 1, 3, 5])
def test_frozen_parts_and_only_they_get_no_gradient_and_the_label_frozen(frozen_stages):
    net = ResNet(depth=18, width=8, norm="gn", frozen_stages=frozen_stages)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 3)), jnp.float32)
    variables = net.init(jax.random.key(0), x, True)

    @jax.jit
    def loss(params):
        return sum(jnp.sum(jnp.sin(f)) for f in net.apply({"params": params}, x, True))

    gradient = {"backbone": jax.grad(loss)(variables["params"])}
    labels = frozen_labels({"backbone": variables["params"], "fpn": {"w": 0}}, net)
    assert labels["fpn"]["w"] == "trained"
    kernels = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(gradient) if path[-1].key == "kernel"]
    for path, leaf in kernels:
        label = labels
        for part in path:
            label = label[part.key]
        assert bool(jnp.any(leaf != 0)) == (label == "trained"), path


def test_batch_norm_statistics_move_only_where_trained_and_span_devices():
    net = ResNet(depth=18, width=8, norm="bn", frozen_stages=1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 1, 32, 32, 3)), jnp.float32)
    variables = net.init(jax.random.key(0), x[0], False)
    apply = jax.pmap(lambda v, x: net.apply(v, x, True, mutable=["batch_stats"])[1], "devices", in_axes=(None, 0))
    updated = apply(variables, x)["batch_stats"]
    stem, later = updated["norm1"]["bn"]["mean"], updated["layer1_0"]["norm1"]["bn"]["mean"]
    assert np.all(np.asarray(stem) == 0.0)
    assert np.any(np.asarray(later) != 0.0)
    np.testing.assert_array_equal(later[0], later[3])


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
def test_rematerialisation_keeps_parameters_values_and_gradients_and_needs_less_memory(norm):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 96, 96, 3)), jnp.float32)
    nets = [ResNet(depth=50, width=8, norm=norm, frozen_stages=0, remat=remat) for remat in (False, True)]
    variables = nets[0].init(jax.random.key(0), x, False)

    def loss(net, params):
        def on_device(x):
            state = variables | {"params": params}
            features, updated = net.apply(state, x, True, mutable=["batch_stats"])
            return sum(f.mean() for f in features), updated

        losses, updated = jax.vmap(on_device, axis_name=DEVICE_AXIS)(x[None])
        return losses.sum(), updated

    shapes = jax.eval_shape(lambda: nets[1].init(jax.random.key(0), x, False))
    assert jax.tree.structure(shapes) == jax.tree.structure(variables)
    programs = [jax.jit(jax.value_and_grad(partial(loss, net), has_aux=True)) for net in nets]
    plain, again = (program(variables["params"]) for program in programs)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), plain, again)
    # Measured before XLA: tests switch off most of its optimisations, so its program differs from a user's.
    kept = [saved_bytes(partial(loss, net), variables["params"]) for net in nets]
    assert kept[1] < 0.6 * kept[0]  # parameters, which both keep, count as well


def saved_bytes(function, params):
    """What the backward pass keeps of the forward pass."""
    _, pull_back, _ = jax.eval_shape(lambda params: jax.vjp(function, params, has_aux=True), params)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull_back))
