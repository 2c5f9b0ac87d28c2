import datetime
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.weights.array_pickle import PickledArray, unpickle_arrays


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


def test_more_memo_places_than_a_file_can_have_are_refused():
    # LONG_BINPUT with a large index makes the unpickler allocate a table of that length.
    with pytest.raises(ValueError, match="remember"):
        unpickle_arrays(b"\x80\x02]r\xff\xff\xff\x7f.")


def test_fewer_bytes_than_an_array_claims_are_refused():
    damaged = pickle.dumps(np.arange(4, dtype=np.float32), 2).replace(b"K\x04", b"K\x09")
    with pytest.raises(ValueError, match=r"reshape|buffer"):
        unpickle_arrays(damaged)
