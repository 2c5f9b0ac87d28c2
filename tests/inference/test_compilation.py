import ctypes
import platform
import re
import threading
from pathlib import Path

import jax
import pytest

from lga_jax.inference import compilation
from lga_jax.inference.compilation import return_freed_memory


def resident_mib():
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries return memory without a call, or never"
)
def test_freed_memory_goes_back_to_the_operating_system():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    size = 100_000  # below what the library maps apart
    blocks = [libc.malloc(size) for _ in range(2000)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    last = libc.malloc(size)  # keeps the heap's end in place
    for block in blocks:
        libc.free(block)
    kept = resident_mib()
    return_freed_memory()
    assert resident_mib() < kept - 150
    libc.free(last)


def test_compiling_gives_memory_back_once_all_programs_are_compiled(monkeypatch):
    compiled, given_back = [], []
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda lowered: compiled.append(lowered))
    monkeypatch.setattr(compilation, "return_freed_memory", lambda: given_back.append(len(compiled)))
    programs = {name: jax.jit(lambda x: x + 1).lower(1.0) for name in ("training", "evaluation")}
    assert compilation.compile_ahead(programs).keys() == programs.keys()
    assert given_back == [2]


def test_an_interrupt_does_not_wait_for_the_compiler(monkeypatch):
    released, finished = threading.Event(), []

    def compile_(lowered):
        if lowered is programs["interrupted"]:
            raise KeyboardInterrupt
        finished.append(released.wait(60))

    programs = {name: jax.jit(lambda x: x + 1).lower(1.0) for name in ("interrupted", "endless")}
    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_)
    with pytest.raises(KeyboardInterrupt):
        compilation.compile_ahead(programs)
    assert finished == []
    released.set()
