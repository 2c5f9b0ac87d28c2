"""Files that do not hold what their name promises."""

import pytest

from lga_jax.data.content import recognise_content


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file (0 bytes)"),
        (b" " * 3000, "an empty file (3000 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a git-lfs pointer"),
        (b"PK\x03\x04 and more", "an archive"),
        (b"\n<HTML><body>", "a web page"),
        (b"<!doctype html>", "a web page"),
    ],
)
def test_usual_mistakes_are_recognised(data, found):
    assert recognise_content(data).found.startswith(found)


@pytest.mark.parametrize("data", [b"{}", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n", b"<annotation>", b" " * 2000 + b"{"])
def test_other_content_is_not_judged(data):
    assert recognise_content(data) is None
