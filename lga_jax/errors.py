"""The error for faulty input of a user, and helpers for its text and for names in it."""

import os
import traceback
import unicodedata
from collections.abc import Sequence

_JOINERS = "\u200c\u200d"  # parts of words in Persian and Hindi


class UserError(ValueError):
    """Faulty input of the user. Its text is one line without control characters:

        data.resize: expected 'bilinear' or 'antialias', found 'cubic'; correct the recipe

    Args:
        subject: the faulty key, flag or file.
        expected: a description of valid input. Empty fields are left out of the text.
        found: the actual input.
        remedy: how to correct it.
    """

    def __init__(self, subject: str, *, expected: str = "", found: str = "", remedy: str = "") -> None:
        self.subject, self.expected, self.found, self.remedy = subject, expected, found, remedy
        wanted = ", ".join(part for part in (expected and f"expected {expected}", found and f"found {found}") if part)
        super().__init__(escaped("; ".join(filter(None, [": ".join(filter(None, [subject, wanted])), remedy]))))

    def within(self, place: str) -> "UserError":
        """The same error with `place` before its subject."""
        parts = dict(expected=self.expected, found=self.found, remedy=self.remedy)
        return type(self)(": ".join(filter(None, [place, self.subject])), **parts)


def missing_device(error: BaseException) -> UserError | None:
    """The error for JAX_PLATFORMS with a type that this machine does not have, if jax raised `error` for it."""
    # The type and the text of jax's error depend on the installed packages; the file is always the same.
    frames = traceback.extract_tb(error.__traceback__)
    if "JAX_PLATFORMS" not in os.environ or not frames or os.path.basename(frames[-1].filename) != "xla_bridge.py":
        return None
    return UserError(
        f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}",
        expected="a device type that jax finds on this machine",
        found="no device",
        remedy="unset JAX_PLATFORMS, or install jax for the device: pip install 'lga_jax[cuda]' or 'lga_jax[tpu]'",
    )


def cause_in(error: BaseException, path: str | os.PathLike) -> str:
    """What the code of a user raised, with the line of the file `path` if it was there: 'KeyError: a, line 7'."""
    if isinstance(error, SyntaxError):
        return f"{error.msg}, line {error.lineno} of {error.filename}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == os.fspath(path)]
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    return f"{text}, line {lines[-1]}" if lines else text


def listed(names: Sequence[object], most: int = 5, separator: str = ", ") -> str:
    """The first names and the number of the others: 'a, b, c and 4 more'; 'none' without names."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (separator.join(map(str, names[:most])) or "none") + more


_PLURALS = {"box": "boxes", "class": "classes", "category": "categories"}


def counted(number: int, noun: str) -> str:
    """A number with its noun: '1 box', '3,941 boxes'."""
    return f"{number:,} {noun if number == 1 else _PLURALS.get(noun, f'{noun}s')}"


def shown(value: object, most: int = 80) -> str:
    """A value from a file as Python writes it: one line without control characters, at most `most` characters long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def escaped(text: str) -> str:
    """The text with control characters, line breaks and unpaired surrogates as Python writes them in quotes.

    Characters that change the direction of writing and spaces other than ' ' are escaped too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else repr(c)[1:-1] for c in text)


def escaped_lines(text: str) -> str:
    """`escaped` of each line."""
    return "\n".join(map(escaped, text.split("\n")))


def printable(name: str, most: int = 160) -> str:
    """A name for a terminal, a page or a picture: one line without control characters, at most `most` characters."""
    text = escaped(name)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def name_differences(ours: Sequence[str], theirs: Sequence[str], our_place: str, their_place: str) -> str:
    """The names in only one of two lists, in quotes, so that spaces are visible; or the first place that differs.

    Names that look alike (composed and decomposed accents) are written with escapes.
    """
    places = ((our_place, ours, theirs), (their_place, theirs, ours))
    only = {place: [name for name in dict.fromkeys(names) if name not in others] for place, names, others in places}
    alike = set.intersection(*({unicodedata.normalize("NFKC", name) for name in names} for names in only.values()))
    quoted = ascii if alike else repr
    parts = [f"only in {place}: {listed([quoted(name) for name in names])}" for place, names in only.items() if names]
    if not parts:
        position = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))
        found = [repr(names[position]) if position < len(names) else "none" for names in (ours, theirs)]
        parts = [f"another order: class {position + 1} is {found[0]} in {our_place} and {found[1]} in {their_place}"]
    return "; ".join(parts)
