"""What every test stands on: a CPU split into four devices, and no randomness from outside."""

import os
import signal

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # commands that tests call keep no programs in the user's cache folder
# Tests run a program a few times at most: compiling it is what takes long, and half of that is optimising. In the
# environment, before jax is imported, so that the processes that tests start compute the same bits.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# XLA's older generator of loops compiles a training step in half the time.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)

import hypothesis
import jax
import pytest

# A shell that starts the suite in the background lets SIGINT be ignored, also in the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Both must happen before the first array is made. Four devices cost nothing and make `pmap` tests real.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)

# The same examples on every machine, and no limit of time: the first example of a jitted function compiles, and another
# process may have the cores while examples are drawn.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=30,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("fuzz", hypothesis.settings.get_profile("repeatable"), max_examples=5000)
hypothesis.settings.load_profile("repeatable")


# What compiles most comes first, so that no worker begins it when the others have ended.
_LONGEST = (
    "tests/training/",
    "tests/models/",
    "tests/studies/",
    "tests/inference/",
    "tests/weights/",
    "tests/commands/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of files, the same in every worker."""

    def rank(item: pytest.Item) -> int:
        return next((rank for rank, name in enumerate(_LONGEST) if item.nodeid.startswith(name)), len(_LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A folder with tiny.py, a recipe, and runs/tiny, a run of it whose checkpoint has random weights. Only to read."""
    from tests import tiny_run

    folder = tmp_path_factory.mktemp("tiny_run")
    tiny_run.write_run(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_predictor(tiny_run):
    """The Predictor of that run; its programs are compiled once for all tests."""
    from lga_jax.inference.predictor import load

    return load(tiny_run / "runs" / "tiny")


@pytest.fixture(scope="session")
def tiny_exported(tiny_run, tmp_path_factory):
    """The detector of that run as a file of StableHLO. Only to read."""
    from lga_jax.exporting.export import export

    path = tmp_path_factory.mktemp("tiny_exported") / "detector.stablehlo"
    export(tiny_run / "runs" / "tiny", path)
    return path
