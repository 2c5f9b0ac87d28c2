import ctypes
import platform
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from lga_jax.errors import UserError
from lga_jax.inference import compilation
from lga_jax.inference.compilation import keep_compiled, return_freed_memory
from lga_jax.inference.predictor import load
from lga_jax.memory import Free
from tests.faults import refused


@pytest.fixture
def cache_settings(monkeypatch, tmp_path):
    """JAX without a folder for compiled programs, and a user whose cache folder is tmp_path."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size
    jax.config.update("jax_compilation_cache_dir", None)
    yield jax.config
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_compilation_cache_max_size", before[1])


def test_load_gives_jax_a_bounded_folder_for_compiled_programs(cache_settings, tmp_path):
    with pytest.raises(UserError):
        load(tmp_path / "nothing")  # JAX has the folder before anything is compiled
    (folder,) = (tmp_path / "lga_jax" / "compiled").iterdir()
    assert cache_settings.jax_compilation_cache_dir == str(folder)
    assert cache_settings.jax_compilation_cache_max_size == 2**31


def test_a_folder_for_compiled_programs_that_was_chosen_stays(cache_settings, monkeypatch, tmp_path):
    for chosen in ("elsewhere", ""):  # empty: nothing is kept
        jax.config.update("jax_compilation_cache_dir", chosen)
        keep_compiled()
        assert cache_settings.jax_compilation_cache_dir == chosen
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    keep_compiled()
    assert cache_settings.jax_compilation_cache_dir is None
    assert not list(tmp_path.iterdir())


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
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda lowered: compiled.append(lowered) or lowered)
    monkeypatch.setattr(jax.stages.Lowered, "memory_analysis", lambda _: None, raising=False)
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
        return SimpleNamespace(memory_analysis=lambda: None)

    programs = {name: jax.jit(lambda x: x + 1).lower(1.0) for name in ("interrupted", "endless")}
    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_)
    with pytest.raises(KeyboardInterrupt):
        compilation.compile_ahead(programs)
    assert finished == []
    released.set()


def _keeps(side):
    """A program that needs a matrix of this side beside its argument and result."""
    return jax.jit(lambda x: jnp.sort(jnp.outer(x, x), axis=0) @ x).lower(jnp.ones(side))


def test_a_program_that_needs_more_memory_than_is_free_is_refused(monkeypatch):
    programs = {"small": _keeps(8), "training 800x1344": _keeps(600)}
    needed = 600 * 600 * 4 * jax.local_device_count()
    monkeypatch.setattr(compilation, "free_memory", lambda: Free(needed - 1, "ulimit -v"))
    with refused("^training 800x1344$", "GiB"):
        compilation.compile_ahead(programs)
    monkeypatch.setattr(compilation, "free_memory", lambda: Free(4 * needed, "ulimit -v"))
    assert compilation.compile_ahead(programs).keys() == programs.keys()


def test_where_nothing_is_known_about_memory_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(compilation, "free_memory", lambda: None)
    assert compilation.compile_ahead({"any": _keeps(8)}).keys() == {"any"}
    monkeypatch.setattr(compilation, "free_memory", lambda: Free(0, "nothing"))
    compilation.check_memory("any", None)


def test_accelerators_are_asked_for_their_own_memory(monkeypatch):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 1000, "bytes_in_use": 400})
    stated = SimpleNamespace(temp_size_in_bytes=500, output_size_in_bytes=200, alias_size_in_bytes=100)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    compilation.check_memory("it", stated)
    stated.temp_size_in_bytes = 501
    with refused("^it$", "GiB") as caught:
        compilation.check_memory("it", stated)
    assert "free on the device" in caught.value.expected
    device.memory_stats = lambda: None
    compilation.check_memory("it", stated)
