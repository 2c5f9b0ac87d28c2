"""How the project tells a user that something they gave it is wrong."""

from collections.abc import Sequence


class UserError(ValueError):
    """A fault in what the user gave. Its text is one line:

        data.resize: expected 'bilinear' or 'antialias', found 'cubic'; correct the recipe

    Args:
        subject: what is wrong: a key, a flag, a file.
        expected: what would be right. Empty parts are left out of the text.
        found: what is there instead.
        remedy: what to do about it.
    """

    def __init__(self, subject: str, *, expected: str = "", found: str = "", remedy: str = "") -> None:
        self.subject, self.expected, self.found, self.remedy = subject, expected, found, remedy
        wanted = ", ".join(part for part in (expected and f"expected {expected}", found and f"found {found}") if part)
        super().__init__("; ".join(filter(None, [": ".join(filter(None, [subject, wanted])), remedy])))

    def within(self, place: str) -> "UserError":
        """The same fault, said of a part of something larger: `place` comes before its subject."""
        parts = dict(expected=self.expected, found=self.found, remedy=self.remedy)
        return type(self)(": ".join(filter(None, [place, self.subject])), **parts)


def listed(names: Sequence[object], most: int = 5, separator: str = ", ") -> str:
    """The first names and how many more there are: 'a, b, c and 4 more'; 'none' for no names."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (separator.join(map(str, names[:most])) or "none") + more


_PLURALS = {"box": "boxes", "class": "classes", "category": "categories"}


def counted(number: int, noun: str) -> str:
    """A number and what it counts: '1 box', '3,941 boxes'."""
    return f"{number:,} {noun if number == 1 else _PLURALS.get(noun, f'{noun}s')}"


def shown(value: object, most: int = 80) -> str:
    """A value from a file as Python writes it: one line without control characters, at most `most` characters long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def printable(name: str) -> str:
    """A name from a file, without quotes: one line without control characters, of a bounded length."""
    text = repr(name)[1:-1]
    return text if len(text) <= 160 else f"{text[:157]}..."
