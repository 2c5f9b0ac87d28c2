"""How a comparison is recorded, and the table that `make parity-table` writes from the records.

`record` is the only way in which a test of this folder compares numbers: what it asserts is what the table shows.
"""

import importlib.metadata
import platform
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

START, END = "<!-- parity table: written by `make parity-table` -->", "<!-- end of parity table -->"
# Small parts first: where they differ, what is made of them differs too.
MODULES = (
    "test_ops",
    "test_network",
    "test_efficientnet_lite",
    "test_convnext",
    "test_swin",
    "test_vit",
    "test_stochastic_depth",
    "test_resize",
    "test_pasting",
    "test_detector",
    "test_masks",
    "test_export",
    "test_training",
    "test_trajectory",
)


class Row(NamedTuple):
    error: float  # the worst of all
    tolerance: float
    count: int  # values compared


class Recorder:
    """Asserts that an error is within its tolerance, and keeps the worst for the table."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], Row] = {}

    def __call__(self, part: str, what: str, error: float, tolerance: float, count: int, unit: str = "") -> None:
        """`error` in `unit`; records with the same part, what and unit become one row of the table."""
        key = (part, what, unit)
        worst, seen = self.rows[key][::2] if key in self.rows else (0.0, 0)
        self.rows[key] = Row(float(np.maximum(worst, error)), tolerance, seen + count)
        assert count > 0, f"{part}: {what}: nothing to compare"
        assert error <= tolerance, f"{part}: {what}: {error:.3g} {unit}, allowed {tolerance:g}"

    def near(self, part: str, what: str, ours, theirs, tolerance: float = 1e-4) -> None:
        """Largest difference, relative to the largest of torchvision's values."""
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert ours.shape == theirs.shape, f"{part}: {what}: shapes {ours.shape} and {theirs.shape}"
        assert theirs.any(), f"{part}: {what}: all of torchvision's values are zero"
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        self(part, what, error, tolerance, ours.size)

    def same(self, part: str, what: str, ours, theirs) -> None:
        """Equality; the error is the number of values that differ."""
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape, f"{part}: {what}: shapes {ours.shape} and {theirs.shape}"
        self(part, what, np.count_nonzero(ours != theirs), 0, ours.size, "differ")

    def table(self) -> str:
        lines = ["| part | what is compared | values | worst error | allowed |", "|---|---|--:|--:|--:|"]
        for (part, what, unit), row in self.rows.items():
            error, tolerance = (f"{value:.1e}" if unit == "" else f"{value:.2g} {unit}" for value in row[:2])
            lines.append(f"| {part} | {what} | {row.count:,} | {error} | {tolerance} |")
        return "\n".join(lines)


RECORDER = pytest.StashKey[Recorder]()


@pytest.fixture(scope="session")
def record(pytestconfig) -> Recorder:
    return pytestconfig.stash.setdefault(RECORDER, Recorder())


@pytest.fixture(autouse=True)
def optimised():
    """A few programs run on many images here, so optimising them pays, unlike in the other tests."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity-table", metavar="PATH", help="page whose parity table is written if every test passes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:  # a hook of a conftest sees the items of other folders too
        return MODULES.index(item.path.stem) if item.path.parent == Path(__file__).parent else -1

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if RECORDER in config.stash:
        terminalreporter.section("worst differences from torchvision")
        terminalreporter.write_line(config.stash[RECORDER].table())


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    page = session.config.getoption("--parity-table")
    if page is None or exitstatus != pytest.ExitCode.OK or RECORDER not in session.config.stash:
        return
    head, rest = Path(page).read_text().split(START)
    tail = rest.split(END)[1]
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchvision", "jax", "flax", "numpy")
    )
    where = f"Python {platform.python_version()}, {versions}; {platform.system()} {platform.machine()}, CPU, float32."
    Path(page).write_text("\n\n".join([head + START, where, session.config.stash[RECORDER].table(), END + tail]))
