"""The names that `import lga_jax` gives."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import lga_jax

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", lga_jax.__all__)
def test_every_name_is_there_and_is_what_its_module_calls_so(name):
    value = getattr(lga_jax, name)
    assert name in dir(lga_jax)
    if name != "__version__":
        assert value.__name__ == name and value.__module__ == lga_jax._MODULES[name]


def test_type_checkers_see_the_same_names_from_the_same_modules():
    (block,) = [node for node in ast.parse(inspect.getsource(lga_jax)).body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == lga_jax._MODULES
    assert sorted([*lga_jax._MODULES, "__version__"]) == sorted(lga_jax.__all__)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="lodd"):
        _ = lga_jax.lodd


def test_the_import_alone_loads_no_heavy_package():
    code = "import sys, lga_jax; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert "'lga_jax'" in loaded
    for package in ("jax", "flax", "numpy", "cv2", "absl", "ml_collections", "orbax"):
        assert f"'{package}'" not in loaded
