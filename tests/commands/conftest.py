"""Fixtures of tests of commands."""

from tests.data.conftest import make_folder

__all__ = ["make_folder"]
