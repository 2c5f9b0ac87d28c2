"""`lga_jax environment` prints one line for each fact."""

import sys

import pytest

from lga_jax.commands import environment


def test_facts_are_printed_line_by_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lga_jax environment"])
    environment.main()
    facts = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert "cpu" in facts["devices"]


def test_an_unknown_flag_ends_with_status_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lga_jax environment", "--verbose"])
    with pytest.raises(SystemExit) as ended:
        environment.main()
    assert ended.value.code == 2 and "--verbose" in capsys.readouterr().err
