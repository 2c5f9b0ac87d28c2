"""A script starts again once, with the same arguments, and only where huge pages are given to those who ask."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lga_jax.command_line import huge_pages

ROOT = Path(__file__).parents[2]
SETTING = "glibc.malloc.hugetlb=1"


class StartedError(Exception):
    """Instead of a new program in this process."""


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Returns a function: the environment with which a fresh script starts again, or None."""
    system = tmp_path / "enabled"
    environ = {}

    def execve(path, arguments, given):
        assert (path, arguments) == (sys.executable, [sys.executable, *sys.orig_argv[1:]])
        environ.update(given)
        raise StartedError

    def start(tunables="", enabled="always [madvise] never", libc="glibc 2.36", modules=(), script=True, mark=False):
        system.write_text(enabled)
        monkeypatch.setenv("GLIBC_TUNABLES", tunables)
        monkeypatch.setattr(huge_pages, "_SYSTEM", str(system))
        monkeypatch.setattr(huge_pages.os, "confstr", lambda name: libc)
        monkeypatch.setattr(huge_pages.os, "execve", execve)
        monkeypatch.delenv(huge_pages._MARK, raising=False)
        if mark:
            monkeypatch.setenv(huge_pages._MARK, "1")
        main = SimpleNamespace(__file__=__file__ if script else "<stdin>")
        monkeypatch.setattr(huge_pages.sys, "modules", {"__main__": main, **dict.fromkeys(modules)})
        monkeypatch.setattr(huge_pages.sys, "gettrace", lambda: None)
        try:
            huge_pages.use_huge_pages()
        except StartedError:
            return environ["GLIBC_TUNABLES"]
        return None

    return start


def test_where_it_helps_the_script_starts_again(start):
    assert start() == SETTING
    assert start(libc="glibc 3.0") == SETTING
    assert start(tunables="glibc.malloc.check=3") == f"glibc.malloc.check=3:{SETTING}"


@pytest.mark.parametrize(
    "case",
    [
        dict(tunables=SETTING),
        dict(tunables="glibc.malloc.hugetlb=0"),
        dict(enabled="[always] madvise never"),
        dict(enabled="always madvise [never]"),
        dict(libc="glibc 2.31"),
        dict(libc=None),
        dict(modules=["jax"]),
        dict(modules=["numpy"]),
        dict(modules=["multiprocessing"]),
        dict(modules=["IPython"]),
        dict(script=False),
        dict(mark=True),
    ],
)
def test_elsewhere_it_does_not(start, case):
    assert start(**case) is None


def test_a_process_that_cannot_start_again_goes_on(start, monkeypatch):
    start()
    monkeypatch.setattr(huge_pages.os, "execve", lambda *args: (_ for _ in ()).throw(OSError))
    huge_pages.use_huge_pages()


_SCRIPT = """
import os, sys
from lga_jax.command_line import huge_pages
print(os.getpid(), sys.argv[1:], flush=True)
huge_pages._helps = lambda: True
huge_pages.use_huge_pages()
print(os.environ["GLIBC_TUNABLES"], flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="starting again in the same process needs Linux")
def test_the_same_process_with_the_same_arguments(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", huge_pages._MARK)}
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    done = subprocess.run(
        [sys.executable, "-X", "utf8", script, "a b", "--c"],
        env=env | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    first, again, setting = done.stdout.splitlines()
    assert first == again
    assert first.endswith("['a b', '--c']")
    assert setting == SETTING


def test_a_program_from_standard_input_goes_on(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", huge_pages._MARK)}
    text = _SCRIPT.replace('os.environ["GLIBC_TUNABLES"]', '"at its end"')
    done = subprocess.run(
        [sys.executable, "-u"],
        input=text,
        env=env | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.endswith("at its end\n")
