"""Facts for a bug report: versions, devices, the processor, memory and environment variables."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    *("lga_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "ml_collections", "numpy"),
    *("opencv-python-headless", "pillow", "pycocotools", "tensorflow-datasets", "array_record", "torch"),
)
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16")
_VARIABLES = (
    *("JAX_", "XLA_", "CUDA_", "TPU_", "TF_CPP_", "TFDS_", "OMP_"),
    *("NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "HF_HOME", "GLIBC_TUNABLES"),
)


def describe() -> Iterator[tuple[str, str]]:
    """The facts as (name, value)."""
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    for package in _PACKAGES:
        yield package, _version(package)
    yield "devices", _devices()
    yield "processor", _processor()
    yield "memory", _memory()
    for name in sorted(name for name in os.environ if name.startswith(_VARIABLES)):
        yield name, os.environ[name]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> str:
    try:
        import jax

        devices = jax.devices()
    except Exception as error:  # the report shows any error of a backend
        return f"none: {' '.join(str(error).split())}"
    kinds = sorted({device.device_kind for device in devices})
    return f"{len(devices)} x {', '.join(kinds)} ({jax.default_backend()})"


def _processor() -> str:
    lines = _fields(Path("/proc/cpuinfo"))
    flags = set(lines.get("flags", lines.get("Features", "")).split())
    features = ", ".join(name for name in _FEATURES if name in flags) or "features not known"
    model = lines.get("model name") or platform.processor() or platform.machine()
    return f"{model}, {_num_cores()} cores for this process, {features}"


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> str:
    total = _fields(Path("/proc/meminfo")).get("MemTotal", "")
    return f"{int(total.split()[0]) / 2**20:.1f} GiB" if total else "not known"


def _fields(path: Path) -> dict[str, str]:
    """The first 'name : value' of each name in a file of /proc; empty on systems without /proc."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.partition(":") for line in reversed(lines)]
    return {name.strip(): value.strip() for name, _, value in pairs}
