"""Checks of the gradients of any backbone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

TRAINED = ("bias", "stem_position")  # parameters that get a gradient wherever one arrives


def assert_frozen_parts_and_only_they_get_none(net: Any, hw: tuple[int, int], names: tuple[str, ...] = TRAINED) -> None:
    """`names`: parameters whose gradient is not 0 by chance."""
    x, params = _input_and_params(net, hw)
    gradient = jax.jit(jax.grad(lambda p: sum(jnp.sin(f).sum() for f in net.apply({"params": p}, x, True))))(params)
    checked = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert bool(jnp.all(jnp.isfinite(leaf))), path
        if path[-1].key in names:
            part = net.part_of(tuple(name.key for name in path))
            assert bool(jnp.any(leaf != 0)) == (part >= net.frozen_stages), path
            checked += 1
    assert checked


def assert_remat_changes_no_number(network: Callable[..., Any], hw: tuple[int, int]) -> None:
    """`network`: builds the backbone from `remat`."""
    nets = [network(remat=remat) for remat in (False, True)]
    x, params = _input_and_params(nets[0], hw)
    one, other = (
        jax.jit(jax.grad(lambda p, net=net: jnp.sin(net.apply({"params": p}, x, True)[3]).sum()))(params)
        for net in nets
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, other)


def _input_and_params(net: Any, hw: tuple[int, int]) -> tuple[jax.Array, Any]:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, *hw, 3)), jnp.float32)
    return x, net.init(jax.random.key(0), x, True)["params"]
