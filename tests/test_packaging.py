"""pyproject.toml, constraints.txt, the Makefile and the code agree about what the project needs and where it lies."""

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
DISTRIBUTION = {
    "PIL": "pillow",
    "absl": "absl-py",
    "cv2": "opencv-python-headless",
    "orbax": "orbax-checkpoint",
    "yaml": "pyyaml",
}
SOURCES = sorted((ROOT / "lga_jax").rglob("*.py")) + sorted((ROOT / "configs").glob("*.py")) + sorted(ROOT.glob("*.py"))


def name_of(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].replace("_", "-").lower()


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module.split(".")[0])
    return modules


def test_declared_dependencies_are_those_that_are_imported():
    modules = set().union(*map(imported_modules, SOURCES)) - set(sys.stdlib_module_names)
    extras = ("torch", "export", "wandb", "mlflow")
    optional = [name_of(wanted) for extra in extras for wanted in PROJECT["optional-dependencies"][extra]]
    modules -= {"lga_jax", "configs", *optional, "mlflow"}  # of mlflow-skinny
    assert {name_of(DISTRIBUTION.get(module, module)) for module in modules} == set(
        map(name_of, PROJECT["dependencies"])
    )


@pytest.mark.parametrize("python_version", ["3.11", "3.12"])
def test_every_dependency_is_pinned_for_every_python(python_version):
    pinned = set()
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        requirement, _, marker = line.partition(";")
        if requirement and not line.startswith("#"):
            assert re.fullmatch(r"[\w.-]+==[\w.]+", requirement.strip()), line
            if not marker or eval(marker, {"python_version": python_version}):
                assert name_of(requirement) not in pinned, f"{requirement} is pinned twice"
                pinned.add(name_of(requirement))
    extras = ("test", "tensorboard", "wandb", "mlflow")  # what `make test` installs
    needed = PROJECT["dependencies"] + [
        wanted for extra in extras for wanted in PROJECT["optional-dependencies"][extra]
    ]
    assert set(map(name_of, needed)) <= pinned


MAKEFILE = (ROOT / "Makefile").read_text()


def test_the_makefile_names_tests_that_exist():
    named = re.findall(r"\btests(?:/\w+)*(?:\.py)?", "".join(re.findall(r"^\t.*pytest.*", MAKEFILE, re.MULTILINE)))
    assert "tests/parity" in named
    assert [path for path in named if not (ROOT / path).exists()] == []
    (fuzz,) = re.findall(r'pytest (\S+) -k "(\w+) or (\w+)" --hypothesis', MAKEFILE)
    tests = "".join(path.read_text() for path in (ROOT / fuzz[0]).rglob("test_*.py"))
    assert all(re.search(rf"^def test_\w*{words}", tests, re.MULTILINE) for words in fuzz[1:])


def test_the_program_in_the_makefile_imports_what_there_is():
    program = MAKEFILE.split("define HELD_OUT\n")[1].split("endef")[0]
    imported = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in imported} >= {"configs.challenge_demo"}
    for node in imported:
        assert all(hasattr(importlib.import_module(node.module), alias.name) for alias in node.names)


def test_the_makefile_runs_modules_that_exist():
    modules = set(re.findall(r"\$\(PY\) -m ([\w.]+)", MAKEFILE)) - {"pytest", "pip", "ruff", "sphinx", "venv"}
    assert modules == {"benchmarks.bench", "tests.torture"}
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def test_recipes_travel_in_the_wheel_and_nothing_else_lies_at_its_top():
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["lga_jax"], "force-include": {"configs": "lga_jax/configs"}}
    assert PROJECT["scripts"] == {"lga_jax": "lga_jax.commands.__main__:start"}


def test_the_demo_predicts_with_the_program_that_its_evaluation_compiled():
    """The size of a batch is part of the program."""
    (recipe,) = re.findall(r"^DEMO_CONFIG := configs/(\w+)\.py$", MAKEFILE, re.MULTILINE)
    (images,) = re.findall(r"predict\.py .*--batch_size (\d+)", MAKEFILE)
    assert int(images) == importlib.import_module(f"configs.{recipe}").get_config().batch_size
