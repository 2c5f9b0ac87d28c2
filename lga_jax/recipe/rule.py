"""Rules for single values: a description in words, and a function that accepts or rejects a value."""

import ast
import math
import numbers
import os
from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """The rule of one key."""

    expected: str  # description: "a number from 0 to 1"
    accept: Callable[[Any], Any]  # returns the converted value, or raises ValueError
    is_text: bool = False  # on the command line the value is the text itself, without quotes
    needed: bool = True  # False: the key is optional
    choices: tuple = ()

    def read(self, text: str) -> Any:
        """The value of a text from the command line; the text itself if it is not a literal."""
        return text if self.is_text else read_literal(text)


def read_literal(text: str) -> Any:
    """A number, a tuple, True, False or None; any other text is returned unchanged."""
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def whole(least: int = 1, most: int | None = None) -> Rule:
    """An int. 1e3 is accepted as 1000; True is rejected."""

    def accept(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise ValueError
        if value != int(value) or value < least or (most is not None and value > most):
            raise ValueError
        return int(value)

    return Rule(f"a whole number {_range(least, most)}", accept)


def number(
    least: float | None = None, most: float | None = None, *, above: float | None = None, below: float | None = None
) -> Rule:
    """A finite float; ints are accepted."""

    def accept(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise ValueError
        bounds = (
            (least is None or value >= least)
            and (most is None or value <= most)
            and (above is None or value > above)
            and (below is None or value < below)
        )
        if not bounds:
            raise ValueError
        return float(value)

    words = [_range(least, most)] if least is not None or most is not None else []
    words += [f"above {above:g}"] if above is not None else []
    words += [f"below {below:g}"] if below is not None else []
    return Rule(" ".join(["a number", " and ".join(words)]).strip(), accept)


def flag() -> Rule:
    """True or False."""

    def accept(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return Rule("True or False", accept)


def choice(*choices: Any) -> Rule:
    """One of these values, which are all texts or all ints."""

    def accept(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | numbers.Real) or value not in choices:
            raise ValueError
        return type(choices[0])(value)

    return Rule(either(choices), accept, is_text=isinstance(choices[0], str), choices=choices)


def text(expected: str = "a text", *, may_be_empty: bool = False) -> Rule:
    """A str of one line."""

    def accept(value: Any) -> str:
        if not isinstance(value, str) or not (value or may_be_empty) or not value.isprintable():
            raise ValueError
        return value

    return Rule(expected, accept, is_text=True)


def path(expected: str = "a path", *, may_be_empty: bool = False) -> Rule:
    """A path; a leading ~ is replaced by the user's folder."""
    plain = text(may_be_empty=may_be_empty)

    def accept(value: Any) -> str:
        return os.path.expanduser(plain.accept(os.fspath(value) if isinstance(value, os.PathLike) else value))

    return Rule(expected, accept, is_text=True)


def several(rule: Rule, expected: str, *, least: int = 0, most: int | None = None) -> Rule:
    """A tuple of entries that follow `rule`; lists are accepted."""

    def accept(value: Any) -> tuple:
        if not isinstance(value, list | tuple) or len(value) < least or (most is not None and len(value) > most):
            raise ValueError
        return tuple(rule.accept(entry) for entry in value)

    return Rule(expected, accept, choices=rule.choices)


def unset_or(rule: Rule) -> Rule:
    """None, or a value that `rule` accepts."""
    return rule._replace(
        expected=f"None or {rule.expected}", accept=lambda value: None if value is None else rule.accept(value)
    )


def optional(rule: Rule) -> Rule:
    """The same rule for an optional key."""
    return rule._replace(needed=False)


def either(choices: tuple) -> str:
    """'a', 'b' or 'c'."""
    *first, last = map(repr, choices)
    return f"{', '.join(first)} or {last}" if first else last


def _range(least: float | None, most: float | None) -> str:
    if most is None:
        return f"of at least {least:g}"
    return f"of at most {most:g}" if least is None else f"from {_digits(least)} to {_digits(most)}"


def _digits(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
