"""SECURITY.md: every row of its tables and every limit names a test that exists."""

import ast
import re
from pathlib import Path

import pytest

from lga_jax import archives
from lga_jax.data import decode
from lga_jax.weights import files, pickle_machine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("|") and "---" not in line]
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NAMED = _TEST.findall(PAGE)
LIMITS = PAGE.partition("## Limits")[2].partition("\n## ")[0].split("\n- ")[1:]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_tests_exist(file, name):
    functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name in functions


def test_every_row_names_a_test():
    rows = [row for row in ROWS if row[0] != "input"]
    without = [row[0] for row in rows if "::" not in row[-1]]
    assert without == ["caches: JAX's compilation cache, the cache of the Hugging Face hub"]
    assert sum("::" in row[-1] for row in rows) == len(rows) - 1


def test_every_limit_names_a_test_or_says_that_there_is_none():
    without = [limit.partition("**")[2].partition("**")[0] for limit in LIMITS if not _TEST.search(limit)]
    assert without == ["Libraries in C, C++ and Rust", "Contents can mislead.", "Time"]
    assert all("No test" in limit for limit in LIMITS if not _TEST.search(limit))


def test_the_limits_on_the_page_are_those_of_the_code():
    for limit in (
        f"{pickle_machine.MAX_OPCODES:,} opcodes",
        f"{pickle_machine.MAX_DEPTH} containers",
        f"integers of {pickle_machine.MAX_BITS} bits",
        f"{archives.SMALL // 2**20} MiB at most {archives.MAX_RATIO} times",
        f"at most {files._LIMIT // 2**30} GiB of arrays",
        f"at most {decode.MAX_PIXELS:,} pixels",
    ):
        assert limit in PAGE, limit
    assert pytest.approx(0.5, abs=1e-3) == 3 * decode.MAX_PIXELS / 2**30  # half a gigabyte


def test_the_readme_links_to_the_page():
    assert "](SECURITY.md)" in (ROOT / "README.md").read_text()
