"""Executes the opcodes of a pickle without trusting them: nothing is imported, called or changed that is not given.

Python's unpickler hashes any value as a key, and sets attributes of any object. A small file can therefore make it
crash or never end. Here, every opcode takes time proportional to its argument or to the values that it removes from the
stack, and the result contains only texts, numbers, bytes, lists, tuples, dictionaries, and values of the caller.
"""

import codecs
import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from lga_jax.errors import UserError

MAX_OPCODES = 1_000_000  # a few seconds; a detector with its optimizer has fewer than 100,000
MAX_DEPTH = 64  # containers inside containers
MAX_BITS = 128  # the state of a random generator has integers of 128 bits

_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
_ARGUMENTS = {  # opcodes that push their argument
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_IGNORED = {"PROTO", "FRAME"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

Call = Callable[..., Any]


class Opaque:
    """Replaces a value that is not needed, with everything that the pickle puts into it."""

    def __init__(self, *_: object) -> None:
        pass


class Stateful:
    """A value of the caller that takes the state which pickles give to objects after creating them."""

    def set_state(self, state: object) -> None:
        """Takes the state. Raises ValueError if it is not valid."""
        raise NotImplementedError


class Global:
    """A name of a module in a pickle. It has no attributes and is not callable."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Call | None) -> None:
        self.name, self.call = name, call


def forbidden(name: str) -> UserError:
    """The error for a file with a name other than that of an array."""
    return UserError(
        "",
        expected="arrays only",
        found=f"{name[:100]}, which could run code",
        remedy="if you trust the file, save its state dict as .npz or .safetensors with the program that wrote it",
    )


def execute(
    file: io.BufferedIOBase,
    size: int,
    names: Mapping[str, Call | None],
    persistent: Callable[[object], Any] | None = None,
) -> Any:
    """The value of the pickle at the current position of `file`; the position afterwards is behind it.

    Entries of dictionaries whose key is not a text are left out.

    Args:
        file: the file.
        size: its number of bytes.
        names: what may be called: {"collections.OrderedDict": function}; None: may be named, but not called.
        persistent: converts persistent ids; None: the pickle may have none.

    Raises UserError for other names, ValueError for a damaged pickle or one beyond the limits of this module.
    """
    machine = _Machine(names, persistent)
    arguments = _Bounded(file, size)
    for _ in range(MAX_OPCODES):
        code = file.read(1)
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise ValueError(f"expected a pickle, found the byte {code!r}" if code else "the pickle has no end")
        if opcode.name == "STOP":
            return machine.result()
        if opcode.name == "STRING":
            argument = _quoted(arguments.readline())
        else:
            argument = opcode.arg.reader(arguments) if opcode.arg else None
        machine.step(opcode.name, argument)
    raise ValueError(f"expected at most {MAX_OPCODES:,} opcodes")


class _Bounded:
    """Reads from a file. A length in a pickle is not believed, because reading allocates it."""

    def __init__(self, file: io.BufferedIOBase, size: int) -> None:
        self._file, self._size = file, size
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, max(self._size - self._file.tell(), 0)))


def _quoted(line: bytes) -> str:
    text = line.strip()
    if len(text) < 2 or text[:1] not in b"'\"" or text[-1:] != text[:1]:
        raise ValueError("expected a text in quotes")
    return codecs.escape_decode(text[1:-1])[0].decode("latin1")  # Python 2 wrote bytes as text


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, names: Mapping[str, Call | None], persistent: Callable[[object], Any] | None) -> None:
        self._names, self._persistent = names, persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        # For each container by its identity: itself, so that no other value gets the identity, and its depth.
        self._depths: dict[int, tuple[Any, int]] = {}
        self._complete: set[int] = set()  # containers inside another one

    def result(self) -> Any:
        if len(self._stack) != 1:
            raise ValueError(f"expected one value at the end, found {len(self._stack)}")
        return self._stack[0]

    def step(self, name: str, argument: Any) -> None:
        if name in _ARGUMENTS:
            if isinstance(argument, int) and abs(argument) >> MAX_BITS:
                raise ValueError(f"expected integers of at most {MAX_BITS} bits")
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self._push_container(tuple(self._pop_many(_TUPLES[name])))
        elif name not in _IGNORED:
            self._change(name, argument)

    def _change(self, name: str, argument: Any) -> None:
        """The opcodes with a meaning of their own."""
        match name:
            case "MARK":
                self._marks.append(len(self._stack))
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                self._push_container({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[name]())
            case "EMPTY_SET":
                self._stack.append(Opaque())
            case "TUPLE" | "LIST":
                self._push_container((tuple if name == "TUPLE" else list)(self._pop_to_mark()))
            case "DICT":
                entries = self._pop_to_mark()
                self._push_container({})
                self._put_entries(entries)
            case "FROZENSET":
                self._pop_to_mark()
                self._stack.append(Opaque())
            case "APPEND":
                self._put_items(self._pop_many(1))
            case "APPENDS" | "ADDITEMS":
                self._put_items(self._pop_to_mark())
            case "SETITEM":
                self._put_entries(self._pop_many(2))
            case "SETITEMS":
                self._put_entries(self._pop_to_mark())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._remember(argument)
            case "MEMOIZE":
                self._remember(len(self._memo))
            case "GET" | "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case _:
                self._call(name, argument)

    def _call(self, name: str, argument: Any) -> None:
        match name:
            case "GLOBAL":
                self._push_global(*argument.split(" ", 1))
            case "STACK_GLOBAL":
                self._push_global(*self._pop_many(2))
            case "REDUCE" | "NEWOBJ":
                function, arguments = self._pop_many(2)
                self._stack.append(self._called(function, arguments))
            case "BUILD":
                (state,) = self._pop_many(1)
                if isinstance(self._top(), Stateful):  # others need no state, such as the metadata of a state dict
                    self._top().set_state(state)
            case "BINPERSID" if self._persistent:
                self._stack.append(self._persistent(*self._pop_many(1)))
            case _:
                raise ValueError(f"expected a pickle of arrays, found the opcode {name}")

    def _push_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("expected a name of two texts")
        known = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if known not in self._names:
            raise forbidden(ascii(f"{module}.{name}")[1:-1])
        self._stack.append(Global(known, self._names[known]))

    def _called(self, function: object, arguments: object) -> Any:
        if not isinstance(function, Global) or function.call is None or not isinstance(arguments, tuple):
            raise ValueError("expected the call of a known name")
        value = function.call(*arguments)
        if isinstance(value, dict):
            self._depths[id(value)] = value, self._depth_around(arguments)
        return value

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("expected a value on the stack")
        return self._stack[-1]

    def _pop_many(self, count: int) -> list[Any]:
        if len(self._stack) - count < (self._marks[-1] if self._marks else 0):
            raise ValueError("expected more values on the stack")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise ValueError("expected a mark on the stack")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _remember(self, place: int) -> None:
        if not 0 <= place < MAX_OPCODES:
            raise ValueError(f"expected to remember at most {MAX_OPCODES:,} values, found place {place}")
        self._memo[place] = self._top()

    def _push_container(self, value: tuple | list | dict) -> None:
        self._depths[id(value)] = value, self._depth_around(value)
        self._stack.append(value)

    def _depth_around(self, values: Any) -> int:
        """The depth of a container of these values, which must be complete from now on."""
        inner = [id(value) for value in values if isinstance(value, tuple | list | dict)]
        self._complete.update(inner)
        depth = 1 + max((self._depths[identity][1] for identity in inner), default=0)
        if depth > MAX_DEPTH:
            raise ValueError(f"expected at most {MAX_DEPTH} containers inside each other")
        return depth

    def _grow(self, container: list | dict, values: list[Any]) -> None:
        if id(container) in self._complete:  # otherwise it could contain itself
            raise ValueError("expected containers that do not change inside another one")
        depth = max(self._depths[id(container)][1], self._depth_around(values))
        if id(container) in self._complete:
            raise ValueError("expected containers that do not contain themselves")
        self._depths[id(container)] = container, depth

    def _put_items(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Opaque):
            return
        if not isinstance(target, list):
            raise ValueError("expected a list to append to")
        self._grow(target, values)
        target += values

    def _put_entries(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Opaque):
            return
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("expected a dictionary and pairs of key and value")
        self._grow(target, values)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is str:  # hashing any other value may take forever
                target[key] = value


def execute_bytes(data: bytes, names: Mapping[str, Call | None]) -> Any:
    """`execute` for bytes in memory."""
    return execute(io.BytesIO(data), len(data), names)
