"""A suggested recipe as a Python file, with the reason above each value."""

import textwrap
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from lga_jax.errors import counted, escaped, listed
from lga_jax.suggest.choose import Suggestion
from lga_jax.suggest.statistics import Statistics

_WIDTH = 120

_TEXT = '''"""{title}

{about}

    lga_jax preview --config {path} --output {workdir}/preview
    lga_jax train --config {path} --workdir {workdir}

Every value can be changed here, or on the command line: --config.num_steps={num_steps}. `lga_jax recipes coco` explains
all keys.
"""

from ml_collections import ConfigDict

from lga_jax.recipe import start_from


def get_config() -> ConfigDict:
{reason}
    config = start_from("{base}")
{lines}
    return config
'''


def write_text(suggestion: Suggestion, data: Mapping[str, Mapping[str, Any]], statistics: Statistics, path: str) -> str:
    """The text of the recipe. `data`: the settings of data.train and data.eval; `path`: where it will stand."""
    stem = path.rsplit("/", 1)[-1].removesuffix(".py")
    lines = [f"    config.data.{part} = {_literal(settings, 8)}" for part, settings in data.items()]
    for reason, same in groupby(suggestion.choices, key=lambda choice: choice.reason):
        lines += ["", *_comment(reason)]
        lines += [f"    config.{one.key} = {_literal(one.value, 8)}" for one in same]
    return _TEXT.format(
        title=f"Suggested by `lga_jax suggest` for {counted(statistics.num_images, 'image')}, to be changed freely.",
        about="\n".join(textwrap.wrap(_in_docstring(describe(statistics)), _WIDTH)),
        path=_in_docstring(path),
        workdir=_in_docstring(f"runs/{stem}"),
        num_steps=2 * next(one.value for one in suggestion.choices if one.key == "num_steps"),
        reason="\n".join(_comment(suggestion.reason)),
        base=suggestion.base,
        lines="\n".join(lines),
    )


def describe(statistics: Statistics) -> str:
    """The set in one paragraph."""
    small, middle, large = (statistics.object_side(share) for share in (0.1, 0.5, 0.9))
    heights, widths = (sorted(sides) for sides in statistics.hw.T.tolist())
    names = listed([repr(name)[1:-1] for name in statistics.class_names])
    return (
        f"{counted(len(statistics.box_hw), 'object')} of {counted(len(statistics.class_names), 'class')} ({names}). "
        f"Images are {widths[len(widths) // 2]} x {heights[len(heights) // 2]} pixels (medians). "
        f"A tenth of the objects have a side (root of the area) below {small:.0f} pixels, half below {middle:.0f}, "
        f"nine tenths below {large:.0f}; all classes count alike. The fullest image has {statistics.most_objects:,}."
    )


def _in_docstring(text: str) -> str:
    """Names of classes come from a file: they may not end the docstring."""
    return escaped(text).replace("\\", "/").replace('"', "'")


def _comment(reason: str) -> list[str]:
    return textwrap.wrap(
        escaped(reason[0].upper() + reason[1:] + "."), _WIDTH, initial_indent="    # ", subsequent_indent="    # "
    )


def _literal(value: Any, indent: int) -> str:
    """A value as Python; a dict as dict(...) with one line for each key."""
    if isinstance(value, str) and value.isprintable() and not set(value) & set('"\\'):
        return f'"{value}"'
    if not isinstance(value, Mapping):
        return repr(value)
    if not all(key.isidentifier() for key in value):
        return repr(dict(value))
    entries = sorted(value.items(), key=lambda item: item[0] != "source")  # what it is comes first
    lines = [f"{' ' * indent}{key}={_literal(entry, indent + 4)}," for key, entry in entries]
    return "\n".join(["dict(", *lines, f"{' ' * (indent - 4)})"])
