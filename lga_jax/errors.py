"""How the project tells a user that something they gave it is wrong."""


class UserError(ValueError):
    """A fault in what the user gave: one line that names the thing, what was expected, what was found, what to do."""


_PLURALS = {"box": "boxes", "class": "classes", "category": "categories"}


def counted(number: int, noun: str) -> str:
    """A number and what it counts: '1 box', '3,941 boxes'."""
    return f"{number:,} {noun if number == 1 else _PLURALS.get(noun, f'{noun}s')}"


def printable(text: str) -> str:
    """What people can be shown of a name from a file: one line without control characters, of a bounded length."""
    shown = repr(text)[1:-1]
    return shown if len(shown) <= 160 else f"{shown[:157]}..."
