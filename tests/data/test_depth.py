import numpy as np
import pytest

from lga_jax.data.depth import to_eight_bits
from lga_jax.data.source import UnreadableImageError
from tests.faults import refused


@pytest.mark.parametrize(
    ("values", "kind", "expected", "described"),
    [
        ([0, 7, 255], np.uint8, [0, 7, 255], ""),
        ([0, 255, 4095], np.uint16, [0, 15, 255], "12 bits"),
        ([0, 255, 4096, 65535], np.uint16, [0, 0, 16, 255], "16 bits"),
        ([0, 4096, 65535], ">u2", [0, 16, 255], "16 bits"),
        ([0, 255], np.int32, [0, 255], "32 bits, values below 256"),
        ([0, 256, 4095], np.int32, [0, 16, 255], "12 bits"),
        ([0, 4096, 65535], np.uint32, [0, 16, 255], "16 bits"),
        ([0.0, 0.5, 1.0], np.float32, [0, 128, 255], "floats from 0 to 1"),
        ([0.0, 1.0, 254.6], np.float64, [0, 1, 254], "floats from 0 to 255"),
    ],
)
def test_values_of_eight_bits(values, kind, expected, described):
    found = to_eight_bits(np.array([values], kind), "it")
    assert (found.pixels.tolist(), found.values) == ([expected], described)


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        ([-1, 5], np.int16, "integers from -1 to 5"),
        ([0, 65536], np.int32, "integers from 0 to 65536"),
        ([-0.1, 1.0], np.float32, "floats from -0.1 to 1"),
        ([0, 255.5], np.float64, "floats from 0 to 255.5"),
        ([0, np.nan], np.float32, "floats from nan to nan"),
        ([0, np.inf], np.float32, "floats from 0 to inf"),
    ],
)
def test_values_without_a_stated_meaning_are_refused_with_the_reason(values, kind, found):
    with refused("^it$", f"^{found}$", UnreadableImageError):
        to_eight_bits(np.array([values], kind), "it")
