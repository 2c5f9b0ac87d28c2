import datetime
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.weights.array_pickle import PickledArray, sizes, unpickle_arrays


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
        np.zeros((0, 3), np.int64),
        np.array([True, False]),
    ],
)
def test_arrays_of_every_protocol(protocol, array):
    found = unpickle_arrays(pickle.dumps({"a": array}, protocol))["a"]
    found = found.array if isinstance(found, PickledArray) else found  # protocol 5 pickles bytes separately
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_containers_numbers_and_text_come_as_they_are():
    content = OrderedDict(model={"lr": 0.5, "name": "R-50", "steps": [1, 2]}, flag=None)
    assert unpickle_arrays(pickle.dumps(content)) == content


def test_numbers_of_numpy_become_arrays():
    found = unpickle_arrays(pickle.dumps(np.float32(2.5)))
    assert found.shape == () and found == np.float32(2.5)


def test_whatever_else_a_pickle_names_is_refused_and_not_run():
    with pytest.raises(UserError) as caught:
        unpickle_arrays(pickle.dumps({"when": datetime.date(2020, 1, 1)}))
    assert caught.value.found.startswith("datetime.date")


def test_arrays_of_objects_are_refused():
    with pytest.raises(ValueError, match="arrays of numbers"):
        unpickle_arrays(pickle.dumps(np.array([{}], object)))


def test_fewer_bytes_than_an_array_claims_are_refused():
    damaged = pickle.dumps(np.arange(4, dtype=np.float32), 2).replace(b"K\x04", b"K\x09")
    with pytest.raises(ValueError, match=r"reshape|buffer"):
        unpickle_arrays(damaged)


@pytest.mark.parametrize("shape", [(2**62,), (-1,), (1.0,), (True,), [6], (1,) * 33, ((),), (10**30,), ("6",)])
def test_only_short_tuples_of_natural_numbers_are_sizes(shape):
    with pytest.raises(ValueError, match="sizes"):
        sizes(shape)


@pytest.mark.parametrize("state", [b"K\x01", b")", b"(K\x01K\x06\x85NNNt", b"(K\x01K\x06\x85K\x02\x89NtN\x86"])
@pytest.mark.parametrize("start", [b"cnumpy\nndarray\n", b"K\x00"])
def test_states_of_another_form_are_refused(state, start):
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + start + b"\x85R"
    with pytest.raises(ValueError, match="expected"):
        unpickle_arrays(array + state + b"b.")


@pytest.mark.parametrize(
    "code",
    [
        b"c_codecs\nencode\n(NNtR.",
        b"cnumpy\ndtype\n(NtR.",
        b"cnumpy\ndtype\n(X\x02\0\0\0f4tRK\x01b.",
        b"cnumpy.core.multiarray\nscalar\n(NNtR.",
        b"ccollections\nOrderedDict\n(K\x01tR.",
        b"ccollections\nOrderedDict\n(](K\x01e\x85R.",
    ],
)
def test_calls_with_other_arguments_are_refused(code):
    with pytest.raises((ValueError, TypeError)):
        unpickle_arrays(code)


def test_ordered_dictionaries_of_python_2_come_as_pairs():
    pairs = b"]](X\x01\0\0\0aK\x01ea](K\x02K\x03ea"
    assert unpickle_arrays(b"ccollections\nOrderedDict\n" + pairs + b"\x85R.") == {"a": 1}
