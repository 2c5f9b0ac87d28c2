import sys

import pytest

from benchmarks import data


def test_questions_that_it_does_not_have_are_said(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["data.py", "--only", "plan,opening"])
    with pytest.raises(SystemExit, match="2"):
        data.main()
    assert capsys.readouterr().err.splitlines()[-1].endswith("memory,padding, found opening")
