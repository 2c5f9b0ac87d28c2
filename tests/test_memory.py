import resource

import pytest

from lga_jax import memory
from lga_jax.memory import Free, check_limits, free_memory, out_of_memory, too_large
from tests.faults import refused

GIB = 2**30


class JaxRuntimeError(RuntimeError):
    """The name of jax's exception for errors of XLA."""


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes the files from which the limits are read, and sets the limit on addresses."""

    def write(addresses=resource.RLIM_INFINITY, group="", inner="max", outer="max", **files):
        monkeypatch.setattr(resource, "getrlimit", lambda _: (addresses, addresses))
        content = {
            "proc/cgroup": f"0::/{group}\n",
            "proc/statm": f"{GIB // resource.getpagesize()} 0 0 0 0 0 0\n",
            "meminfo": f"MemTotal:       {64 * GIB // 1024} kB\nMemAvailable:   {32 * GIB // 1024} kB\n",
            f"cgroup/{group}/memory.max": f"{inner}\n",
            "cgroup/memory.max": f"{outer if group else inner}\n",
        } | {name.replace("__", "/").replace("_of_", "."): text for name, text in files.items()}
        for name, text in content.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
        monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cgroup")
        monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")

    return write


def test_without_small_limits_the_memory_of_the_machine_counts(system, caplog):
    system()
    check_limits()
    system(addresses=64 * GIB)
    check_limits()
    assert free_memory() == Free(32 * GIB, "free on this machine")
    assert caplog.text == ""


def test_a_small_address_space_is_refused_at_the_start(system, caplog):
    system(addresses=2 * GIB)
    with refused("^ulimit -v$", r"^2\.0 GiB$"):
        check_limits()
    assert caplog.text == ""
    system(addresses=4 * GIB)
    check_limits()
    assert "ulimit -v is 4.0 GiB" in caplog.text
    assert free_memory() == Free(3 * GIB, "ulimit -v")


@pytest.mark.parametrize("group", ["", "job/step"])
def test_the_smallest_limit_of_the_groups_around_a_process_counts(system, group):
    system(group=group, inner=GIB // 2)
    with refused("container", r"^0\.5 GiB$"):
        check_limits()
    system(group=group, inner=2 * GIB, outer=8 * GIB)
    check_limits()
    use = {"memory_of_current": str(GIB), "memory_of_stat": f"anon 5\ninactive_file {GIB // 4}\n"}
    place = f"cgroup__{group.replace('/', '__')}__" if group else "cgroup__"
    system(group=group, inner=2 * GIB, outer=8 * GIB, **{place + name: text for name, text in use.items()})
    assert free_memory() == Free(2 * GIB - GIB + GIB // 4, "the limit of the container or job")


def test_an_outer_group_may_have_the_smaller_limit(system):
    system(group="job", inner=8 * GIB, outer=GIB // 2)
    with refused("container", r"^0\.5 GiB$"):
        check_limits()


@pytest.mark.parametrize("inside", [False, True], ids=["on the machine", "in a container"])
def test_limits_of_control_groups_of_version_1(system, tmp_path, inside):
    """A container sees its own group as the root, and the path of the machine in /proc/self/cgroup."""
    folder = "cgroup/memory" if inside else "cgroup/memory/docker/c7"
    (tmp_path / folder).mkdir(parents=True)
    for name, text in (
        ("memory.limit_in_bytes", 4 * GIB),
        ("memory.usage_in_bytes", 2 * GIB),
        ("memory.stat", f"inactive_file 1\ntotal_inactive_file {GIB}\n"),
    ):
        (tmp_path / folder / name).write_text(f"{text}\n")
    own = {"proc__cgroup": "5:cpu,cpuacct:/docker/c7\n4:memory:/docker/c7\n0::/system\n"}
    system(**own)
    assert free_memory() == Free(3 * GIB, "the limit of the container or job")
    (tmp_path / folder / "memory.limit_in_bytes").write_text(f"{GIB // 2}\n")
    with refused("container", r"^0\.5 GiB$"):
        check_limits()
    (tmp_path / folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert free_memory() == Free(32 * GIB, "free on this machine")


def test_a_system_without_these_files_has_no_known_limit(tmp_path, monkeypatch):
    for name in ("_PROC", "_CGROUP", "_MEMINFO"):
        monkeypatch.setattr(memory, name, tmp_path / "none")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    check_limits()
    assert free_memory() is None


def test_this_machine_has_memory():
    assert free_memory().num_bytes > 2**20


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.\n[tf-allocator]\nmore lines"),
    ],
)
def test_errors_about_memory_are_one_line_that_says_what_to_lower(error):
    found = out_of_memory(error)
    assert found.subject == "memory" and len(str(found).splitlines()) == 1
    for key in ("batch_size", "images_at_once", "data.buckets"):
        assert key in found.remedy


@pytest.mark.parametrize("error", [ValueError("out of memory"), JaxRuntimeError("INTERNAL: oops"), KeyError(1)])
def test_other_errors_keep_their_traceback(error):
    assert out_of_memory(error) is None


def test_a_program_that_is_too_large():
    error = too_large("training 800x1344", 5 * GIB, Free(2 * GIB, "ulimit -v"))
    assert (error.subject, error.found) == ("training 800x1344", "one that needs at least 5.0 GiB")
    assert "2.0 GiB of memory (ulimit -v)" in error.expected and "batch_size" in error.remedy
