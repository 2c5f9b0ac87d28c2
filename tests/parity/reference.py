"""Where the tests of this folder get torch and torchvision from; without them the tests are skipped."""

import jax.numpy as jnp
import pytest

_REASON = "compares with torchvision, which is not installed here; `make test-parity` installs it"
torch = pytest.importorskip("torch", reason=_REASON)
torchvision = pytest.importorskip("torchvision", reason=_REASON)

torch.set_num_threads(1)


def tensor(array):
    """A tensor of torch with the values of an array."""
    return torch.tensor(array)


def both(array):
    """The same values as an array of jax and as a tensor of torch."""
    return jnp.asarray(array), tensor(array)


def array(tensor):
    """An array with the values of a tensor of torch."""
    return tensor.detach().numpy()


def channels_last(tensor):
    """[b, c, h, w] of torch to the array [b, h, w, c]."""
    return array(tensor).transpose(0, 2, 3, 1)


def channels_first(array):
    """[b, h, w, c] to torch's [b, c, h, w]."""
    return tensor(array.transpose(0, 3, 1, 2).copy())
