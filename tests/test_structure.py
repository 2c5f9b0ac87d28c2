"""What docs/architecture.md promises about the tree: short functions, small folders, a test for each module.

    python -m tests.test_structure

prints the figures that pages quote.
"""

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lga_jax"
MOST_FILES = 12  # Python files in a folder
MOST_LINES = 60  # of a function
MEDIAN_LINES = 8

# What does not hold yet. These lists only become shorter.
WITHOUT_TEST: set[str] = set()
WITHOUT_MODULE = {"training/test_extend.py", "training/test_fine_tuning.py", "training/test_program.py"}
TOO_FULL: set[str] = set()


class Function(NamedTuple):
    """A function or method, without its docstring and the lines of its decorators."""

    path: Path
    name: str
    lines: int


def modules() -> list[Path]:
    """All modules of the package that hold code."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path.stat().st_size and path.name != "__init__.py")


def functions() -> list[Function]:
    return [function for path in modules() for function in _functions(path)]


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(
                path.relative_to(ROOT), node.name, node.end_lineno - node.lineno + 1 - _docstring_lines(node)
            )


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1


def folders() -> dict[Path, int]:
    """Python files with code in each folder of the package."""
    counts: dict[Path, int] = {}
    for path in modules():
        counts[path.parent.relative_to(ROOT)] = counts.get(path.parent.relative_to(ROOT), 0) + 1
    return counts


def imports() -> set[tuple[str, str]]:
    """Which folder of the package imports from which other one."""
    return {
        (_room(path.relative_to(ROOT).with_suffix("").parts), _room(tuple(node.module.split("."))))
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lga_jax.")
    }


def _room(parts: tuple[str, ...]) -> str:
    return parts[1]


def place_of_tests(path: Path) -> Path:
    """Where the tests of a module stand."""
    inside = path.relative_to(PACKAGE)
    return ROOT / "tests" / inside.parent / f"test_{inside.stem.strip('_')}.py"


def test_each_module_has_tests_of_its_name():
    missing = {path.relative_to(PACKAGE).as_posix() for path in modules() if not place_of_tests(path).is_file()}
    assert missing <= WITHOUT_TEST


def test_each_test_of_a_folder_has_its_module():
    """A package may have a test of its name beside the tests of its modules."""
    expected = {place_of_tests(path) for path in modules()}
    packages = {ROOT / "tests" / folder.relative_to(PACKAGE) for folder in PACKAGE.rglob("*/") if folder != PACKAGE}
    expected |= {folder.parent / f"test_{folder.name}.py" for folder in packages}
    found = {path for folder in packages for path in folder.glob("test_*.py")}
    assert {path.relative_to(ROOT / "tests").as_posix() for path in found - expected} <= WITHOUT_MODULE


def test_functions_are_short():
    assert [function for function in functions() if function.lines > MOST_LINES] == []
    assert statistics.median(function.lines for function in functions()) <= MEDIAN_LINES


def test_folders_are_small():
    assert {folder.as_posix() for folder, count in folders().items() if count > MOST_FILES} <= TOO_FULL


def main() -> None:
    """Prints the figures."""
    lengths = [function.lines for function in functions()]
    longest = max(functions(), key=lambda function: function.lines)
    fullest = max(folders().items(), key=lambda item: item[1])
    arrows = {(a, b) for a, b in imports() if a != b}
    print(f"modules: {len(modules())}; lines: {sum(len(path.read_text().splitlines()) for path in modules())}")
    print(f"functions: {len(lengths)}; median length: {statistics.median(lengths):g} lines without docstring")
    print(f"longest function: {longest.path}:{longest.name}, {longest.lines} lines")
    print(f"fullest folder: {fullest[0]}, {fullest[1]} files")
    print(f"imports between rooms: {len(arrows)}; of them in a circle: {sum((b, a) in arrows for a, b in arrows)}")


if __name__ == "__main__":
    sys.exit(main())
