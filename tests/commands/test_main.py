"""`lga_jax COMMAND`: what is listed, what is answered, what is not imported."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lga_jax.command_line import huge_pages
from lga_jax.commands import __main__ as console

ROOT = Path(__file__).parents[2]


def test_every_command_is_listed(capsys):
    folder = Path(console.__file__).parent
    modules = {path for path in folder.rglob("*.py") if "def main(" in path.read_text()} - {folder / "__main__.py"}
    assert modules == {ROOT / f"{console.module_of(name).replace('.', '/')}.py" for name in console.COMMANDS}
    console.main([])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")] == [
        *console.COMMANDS
    ]


def test_a_misspelt_command_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as end:
        console.main(["trian"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: trian: expected a command, found an unknown one; did you mean train?\n"


def test_the_version_is_that_of_the_package(capsys):
    console.main(["--version"])
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"lga_jax {version}\n"


_INTERRUPTED = """
import runpy, sys

class Interrupt:
    def find_spec(name, path, target=None):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt)
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["lga_jax.terminal", "lga_jax.errors", "absl"])
def test_an_interrupt_of_the_first_imports_is_one_line_and_status_130(module):
    command = [sys.executable, "-c", _INTERRUPTED, module]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_an_interrupt_while_importing_is_one_line_and_status_130(monkeypatch, capsys):
    ends = []
    monkeypatch.setattr(console.importlib, "import_module", lambda name: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(console.os, "_exit", ends.append)
    monkeypatch.setattr(sys, "argv", sys.argv)
    console.main(["train"])
    assert (ends, capsys.readouterr().err) == ([130], "interrupted\n")


@pytest.mark.parametrize(
    "args",
    [["--help"], ["train", "--config", "challenge", "--config.optim.lr=-1"], ["recipes"], ["eval", "--config", "nope"]],
)
def test_nothing_slow_is_imported_before_a_fault_is_told(args):
    code = (
        "import json, sys\nfrom lga_jax.commands.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code, *args], check=True, env=env, capture_output=True, text=True)
    loaded = set(json.loads(result.stdout.splitlines()[-1]))
    assert loaded.isdisjoint({"jax", "flax", "optax", "orbax", "cv2", "tensorflow_datasets", "matplotlib"})


def test_the_top_level_scripts_are_the_commands():
    for name in ("train", "eval", "predict"):
        body = ast.parse((ROOT / f"{name}.py").read_text()).body[-1]
        assert ast.unparse(body) == f"if __name__ == '__main__':\n    start('{name}')"


def test_a_script_may_start_again_and_a_call_may_not(monkeypatch, capsys):
    started = []
    monkeypatch.setattr(huge_pages, "use_huge_pages", lambda: started.append(True))
    monkeypatch.setattr(sys, "argv", ["lga_jax", "--version"])
    console.main()
    console.main(["--version"])
    assert not started
    console.start()
    assert started == [True]
    assert len(set(capsys.readouterr().out.splitlines())) == 1
