import collections
import pickle
import struct

import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.weights import pickle_machine
from lga_jax.weights.array_pickle import NAMES, unpickle_arrays
from lga_jax.weights.pickle_machine import MAX_DEPTH, Global, Stateful, execute_bytes

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Changeable(Stateful):
    """A value of the caller, with the state that a pickle gave it."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, None

    def set_state(self, state):
        self.state = state


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2, 2**40, -(2**70), True, False, None], "b": (1.5, float("inf")), "c": {}, "d": []},
        ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        {"text": "ä\n'\\x", "": "empty", "long": "x" * 300, "😀": "\x00"},
        [list(range(2000)), {str(number): number for number in range(1500)}],
        {"shared": [one := {"one": 1}, one, one]},
    ],
)
def test_values_of_every_protocol(protocol, value):
    assert execute_bytes(pickle.dumps(value, protocol), NAMES) == value


@pytest.mark.parametrize("data", [b"S'it\\'s'\n.", b'S"it\'s"\n.', b"U\x04it's.", b"T\x04\0\0\0it's.", b"Vit's\n."])
def test_texts_of_python_2(data):
    assert execute_bytes(data, {}) == "it's"


def test_bytes_that_python_2_wrote_as_text():
    assert execute_bytes(b"S'\\xff\\x00'\n.", {}) == "\xff\x00"


def test_keys_other_than_texts_are_left_out():
    content = {"a": 1, 0: 2, None: 3, (1, "b"): 4, 2.5: 5, b"c": 6}
    assert execute_bytes(pickle.dumps(content), {}) == {"a": 1}
    assert execute_bytes(pickle.dumps({"state": {0: "momentum"}}), {}) == {"state": {}}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sets_and_other_unneeded_values_are_opaque(protocol):
    names = {"builtins.set": pickle_machine.Opaque, "__builtin__.set": pickle_machine.Opaque}
    found = execute_bytes(pickle.dumps({"a": {1, 2}, "b": 3}, protocol), names)
    assert found["b"] == 3 and isinstance(found["a"], pickle_machine.Opaque)


def test_calls_and_states_reach_the_values_of_the_caller():
    found = execute_bytes(b"cmine\nValue\n(K\x01K\x02tR}X\x01\0\0\0aK\x03sb.", {"mine.Value": Changeable})
    assert (found.arguments, found.state) == ((1, 2), {"a": 3})


@pytest.mark.parametrize(
    "state",
    [
        b"}X\x0c\0\0\0__defaults__K\x00s",  # for __dict__
        b"N}X\x0c\0\0\0__defaults__K\x00s\x86",  # for attributes
    ],
)
@pytest.mark.parametrize("target", [b"c_codecs\nencode\n", b"cnumpy\ndtype\n", b"ccollections\nOrderedDict\n"])
def test_no_attribute_of_a_function_or_class_is_set(state, target):
    before = {name: dict(vars(function)) for name, function in NAMES.items() if function}
    found = execute_bytes(target + state + b"b.", NAMES)
    assert isinstance(found, Global) and not hasattr(found, "__dict__")
    assert before == {name: dict(vars(function)) for name, function in NAMES.items() if function}


def test_an_ordered_dictionary_gets_no_attributes():
    content = collections.OrderedDict(a=1)
    content.get = "metadata"
    found = unpickle_arrays(pickle.dumps(content))
    assert found == {"a": 1} and found.get("a") == 1


NESTED = b")" + b"\x85" * (MAX_DEPTH + 1)
DOUBLING = b")" + b"q\x00h\x00\x86" * 59  # 2**59 empty tuples to hash
HOSTILE = {
    "nested tuples": (NESTED + b".", "inside each other"),
    "a key of nested tuples": (b"}" + b")" + b"\x85" * 2_000_000 + b"Ns.", "inside each other"),
    "nested lists": (b"]" * 100 + b"a" * 99 + b".", "inside each other"),
    "lists that grow inside others": (
        b"(]q\x00" + b"".join(b"h%c]q%ca" % (n, n + 1) for n in range(9)) + b"t.",
        "do not change",
    ),
    "a list inside itself": (b"]q\x00h\x00a.", "themselves"),
    "a dictionary inside itself": (b"}q\x00X\x01\0\0\0ah\x00s.", "themselves"),
    "more bits than any number": (b"\x8b" + struct.pack("<i", 10_000) + b"\x7f" * 10_000 + b".", "128 bits"),
    "more memo places than a file can have": (b"]r\xff\xff\xff\x7f.", "to remember"),
    "text that is not there": (b"\x8d" + struct.pack("<Q", 2**40) + b"abc.", "bytes"),
    "no end": (b"N" * 10, "no end"),
    "no value": (b".", "one value"),
    "two values": (b"NN.", "one value"),
    "more values than there are": (b"N\x87.", "more values"),
    "values below a mark": (b"N(\x85.", "more values"),
    "no mark": (b"Nt.", "a mark"),
    "no memo place": (b"h\x07.", "7"),
    "an odd number of entries": (b"}(Nu.", "pairs"),
    "entries of a number": (b"K\x01(NNu.", "pairs"),
    "items of a dictionary": (b"}Na.", "a list"),
    "a call of a number": (b"K\x01)R.", "known name"),
    "a call of a name that may not be called": (b"cnumpy\nndarray\n)R.", "known name"),
    "arguments that are no tuple": (b"c_codecs\nencode\n]R.", "known name"),
    "a persistent id": (b"NQ.", "BINPERSID"),
    "an instance": (b"(ic_codecs\nencode\n.", "INST"),
    "an extension": (b"\x82\x01.", "EXT1"),
    "a buffer outside the file": (b"\x97.", "NEXT_BUFFER"),
    "a byte that is no opcode": (b"\xff.", "the byte"),
}


@pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused(data, reason):
    with pytest.raises((ValueError, KeyError), match=reason):
        execute_bytes(data, NAMES)


def test_a_key_of_endless_tuples_is_not_hashed():
    assert execute_bytes(b"}" + DOUBLING + b"Ns.", {}) == {}


def test_the_number_of_opcodes_is_bounded(monkeypatch):
    monkeypatch.setattr(pickle_machine, "MAX_OPCODES", 10)
    assert execute_bytes(b"]" + b"Na" * 4 + b".", {}) == [None] * 4
    with pytest.raises(ValueError, match="10 opcodes"):
        execute_bytes(b"]" + b"Na" * 5 + b".", {})


@pytest.mark.parametrize("name", ["posix.system", "builtins.eval", "numpy.ndarray.tofile"])
def test_other_names_are_refused(name):
    module, _, function = name.rpartition(".")
    with pytest.raises(UserError) as caught:
        execute_bytes(f"c{module}\n{function}\n.".encode(), NAMES)
    assert caught.value.found.startswith(name)


def test_names_must_be_texts():
    with pytest.raises(ValueError, match="two texts"):
        execute_bytes(b"NN\x93.", NAMES)


def test_each_prefix_of_a_sound_pickle_is_refused():
    whole = pickle.dumps({"w": np.arange(3), "a": [1, (2, 3)]}, 2)
    for end in range(len(whole)):
        with pytest.raises((ValueError, KeyError)):
            unpickle_arrays(whole[:end])
