"""Names in pictures: one short line of characters that the font of all pictures has."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache

import matplotlib
from anyascii import anyascii
from matplotlib.ft2font import FT2Font
from PIL import features

from lga_jax.errors import escaped

FONT_FILE = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf"  # equal on every machine
_MOST = 40  # characters
_RIGHT_TO_LEFT = ("R", "AL")  # Unicode's classes of Hebrew and Arabic letters


def drawable(name: str, most: int = _MOST) -> str:
    """The name as it is drawn: one line of at most `most` characters.

    The font has the letters of Latin, Greek, Cyrillic, Hebrew and Arabic. Other characters (Chinese, Japanese, Korean,
    Thai, ...) are replaced by Latin letters, such as 'QiChe'; control characters are escaped.
    """
    text = "".join(c if _has_glyph(c) else anyascii(c) or f"U+{ord(c):04X}" for c in escaped(name))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def drawable_names(names: Mapping[int, str]) -> dict[int, str]:
    """Class names as they are drawn, by category id. Names that would look equal get their id: 'Mao (3)'."""
    drawn = {category: drawable(name) for category, name in names.items()}
    count = Counter(drawn.values())
    return {category: name if count[name] == 1 else f"{name} ({category})" for category, name in drawn.items()}


def _has_glyph(character: str) -> bool:
    if unicodedata.bidirectional(character) in _RIGHT_TO_LEFT and not _writes_right_to_left():
        return False
    return ord(character) in _glyphs()


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(FT2Font(FONT_FILE).get_charmap())


@cache
def _writes_right_to_left() -> bool:
    """Whether Pillow can order and join the letters of Arabic; it needs two libraries that it loads when it starts."""
    return features.check("raqm") and features.check("fribidi")
