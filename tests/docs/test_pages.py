"""Pages keep what they promise: links lead somewhere, and commands, recipes and make targets exist."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "benchmarks/**/*.md", "studies/**/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
)
SCRIPTS = sorted(
    path
    for pattern in ("*.py", "configs/*.py", "lga_jax/commands/**/*.py")
    for path in ROOT.glob(pattern)
    if path.name != "__init__.py"
)


def anchors(page: Path) -> set[str]:
    """The names that headings have on GitHub."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(page: Path) -> str:
    """Everything on a page that a reader might type."""
    text = page.read_text()
    if page.suffix == ".py":
        text = re.match(r'(?:.|\n)*?"""((?:.|\n)*?)"""', text)[1]
    return "\n".join(re.findall(r"^    .*$|`[^`\n]+`|^\s*(?:python|lga_jax|make) .*$", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, heading = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        assert not heading or heading in anchors(place), target


@pytest.mark.parametrize("page", [*PAGES, *SCRIPTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_readers_are_told_to_type_exists(page):
    typed = code(page)
    for module in set(re.findall(r"python -m ((?:lga_jax|benchmarks|studies|tests)[\w.]*)", typed)):
        assert importlib.util.find_spec(module), module
    for script in set(re.findall(r"python ([\w/]+\.py)", typed)):
        assert (ROOT / script).is_file(), script
    for recipe in set(re.findall(r"(?<![\w/.~])configs/\w+\.py", typed)):
        assert (ROOT / recipe).is_file(), recipe
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in set(re.findall(r"(?:^|`|    )make ([a-z-]+)", typed)):
        assert target in targets, target


def test_the_map_of_the_paper_names_what_exists():
    text = (ROOT / "docs" / "paper_map.md").read_text()
    for file, names in re.findall(r"`([\w/]+\.py)(?:: ([\w., ]+))?`", text):
        places = [ROOT / folder / file for folder in ("lga_jax", "tests", "")]
        found = [*filter(Path.is_file, places), *ROOT.glob(f"lga_jax/**/{file}")]
        assert found, file
        for name in re.findall(r"\w+", names):
            assert re.search(rf"\b(?:def|class) {name}\b", found[0].read_text()), f"{file}: {name}"
