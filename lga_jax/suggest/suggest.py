"""Writes a recipe for the data sets of another recipe and for this machine."""

from pathlib import Path

from ml_collections import ConfigDict

from lga_jax.data.doctor.examine import quick_warnings
from lga_jax.data.faulty import check_data
from lga_jax.data.source import open_source, report_of
from lga_jax.files import write_atomically
from lga_jax.recipe import check, load
from lga_jax.suggest.choose import Suggestion, apply, choose
from lga_jax.suggest.machine import this_machine
from lga_jax.suggest.recipe_text import describe, write_text
from lga_jax.suggest.statistics import measure


def suggest(config: ConfigDict, output: Path) -> list[str]:
    """Writes the recipe to `output` and returns report lines. Raises UserError for data that training would refuse."""
    sources = {part: open_source(**config.data[part]) for part in ("train", "eval")}
    warnings = [f"data.{part}: {line}" for part, source in sources.items() for line in report_of(source)]
    warnings += quick_warnings(*sources.values())
    for part, source in sources.items():
        check_data(f"data.{part}", source, config.data)
    statistics = measure(sources["train"])
    suggestion = choose(statistics, this_machine())
    data = {part: config.data[part].to_dict() for part in sources}
    _check(suggestion, data)
    write_atomically(output, write_text(suggestion, data, statistics, str(output)).encode())
    width = max(len(choice.key) for choice in suggestion.choices)
    values = [f"  {choice.key:<{width}}  {choice.value}" for choice in suggestion.choices]
    start = f"starting from {suggestion.base} ({suggestion.reason}):"
    done = f"written with all reasons: {output}; look at the images: lga_jax preview --config {output} --output DIR"
    return [*warnings, describe(statistics), start, *values, done]


def _check(suggestion: Suggestion, data: dict[str, dict]) -> None:
    """Raises if the values contradict each other: nothing wrong is written."""
    recipe = load(suggestion.base)
    for part, settings in data.items():
        recipe.data[part] = ConfigDict(settings)
    apply(recipe, suggestion.choices)
    check(recipe)
