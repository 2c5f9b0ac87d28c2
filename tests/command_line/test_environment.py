"""The lines of a bug report."""

from lga_jax.command_line import environment


def test_the_environment_is_described(monkeypatch):
    monkeypatch.setenv("JAX_OF_MINE", "1")
    lines = dict(environment.describe())
    assert {"python", "jax", "jaxlib", "devices", "processor", "memory"} <= lines.keys()
    assert lines["devices"] == "4 x cpu (cpu)"
    assert lines["JAX_OF_MINE"] == "1"


def test_the_environment_is_described_without_a_device(monkeypatch):
    monkeypatch.setattr("jax.devices", lambda: (_ for _ in ()).throw(RuntimeError("no\ndevice")))
    assert dict(environment.describe())["devices"] == "none: no device"
