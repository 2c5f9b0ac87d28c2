"""The table of docs/reliability.md, from the results of the parts."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lga_jax.command_line.environment import describe
from tests.torture.goals import PARTS
from tests.torture.journal import read_summary

_BEGIN, _END = "<!-- figures of `make torture` -->\n", "<!-- end of the figures -->\n"


def write(outputs: Sequence[Path], page: Path | None) -> None:
    """Writes results.json into the last folder, and the table of all folders into a page that has its marks."""
    journals = {name: [output / f"{name}.jsonl" for output in outputs] for name in PARTS}
    summaries = {name: list(filter(None, map(read_summary, paths))) for name, paths in journals.items()}
    facts = dict(describe())
    machine = {name: facts[name] for name in ("processor", "python", "jax", "orbax-checkpoint")}
    content = {"machine": machine, "parts": summaries}
    (outputs[-1] / "results.json").write_text(json.dumps(content, indent=2) + "\n")
    text = table(summaries, machine)
    print(text)
    if page:
        before, _, rest = page.read_text().partition(_BEGIN)
        _, _, after = rest.partition(_END)
        page.write_text(f"{before}{_BEGIN}{text}{_END}{after}")


def table(summaries: Mapping[str, Sequence[Mapping[str, Any]]], machine: Mapping[str, str]) -> str:
    """Markdown. A row has the figures of a part on each state of the library, with the letter of the state."""
    digests = dict.fromkeys(summary["sources"] for measured in summaries.values() for summary in measured)
    letters = dict(zip(digests, "ABCDEFGHIJ", strict=False))
    rows = [
        (PARTS[name].about, PARTS[name].good, "; ".join(f"{letters[s['sources']]}: {_figure(s)}" for s in measured))
        for name, measured in summaries.items()
        if measured
    ]
    about = f"Measured on {machine['processor']}; Python {machine['python'].split()[0]}, jax {machine['jax']}, "
    about += f"Orbax {machine['orbax-checkpoint']}. "
    about += f"Sources of the library: {', '.join(f'{letter} {digest}' for digest, letter in letters.items())}."
    return f"{_markdown(('what is done', 'a good end', 'measured'), rows)}\n{about}\n"


def _figure(summary: Mapping[str, Any]) -> str:
    """60 of 60 (start-up 30, save 30): by kind of trial if all have the same good end, otherwise by end."""
    found = ", ".join(f"{word} {count:,}" for word, count in summary["found"].items())
    if summary["part"] == "endurance":
        return found.removesuffix(" 1") if not summary["faults"] else summary["faults"][0]
    if summary["part"].startswith(("kill", "disk")):
        found = ", ".join(f"{kind} {tally.split()[0]}" for kind, tally in summary["kinds"].items())
    longest = f"; the longest {summary['largest_figure']:.1f} s" if summary["part"] in ("signals", "kill-two") else ""
    return f"{summary['without_fault']:,} of {summary['trials']:,} ({found}{longest})"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(re.sub(r'[|]', '/', cell) for cell in line)} |\n" for line in lines)
