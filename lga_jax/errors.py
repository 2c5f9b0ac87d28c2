"""The error for faulty input of a user, and helpers for its text."""

from collections.abc import Sequence


class UserError(ValueError):
    """Faulty input of the user. Its text is one line:

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
        super().__init__("; ".join(filter(None, [": ".join(filter(None, [subject, wanted])), remedy])))

    def within(self, place: str) -> "UserError":
        """The same error with `place` before its subject."""
        parts = dict(expected=self.expected, found=self.found, remedy=self.remedy)
        return type(self)(": ".join(filter(None, [place, self.subject])), **parts)


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


def printable(name: str) -> str:
    """A name from a file, without quotes: one line without control characters, of a bounded length."""
    text = repr(name)[1:-1]
    return text if len(text) <= 160 else f"{text[:157]}..."
