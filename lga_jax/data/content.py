"""Recognises files that do not hold what their name promises, from their first bytes."""

from typing import NamedTuple

_LFS_START = b"version https://git-lfs.github.com/spec/"
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf\x27\x1c")  # zip, gzip, bzip2, xz, 7z


class OtherContent(NamedTuple):
    """The actual content of a file, and what the user can do."""

    found: str
    remedy: str


def recognise_content(data: bytes) -> OtherContent | None:
    """The content of a file that is no image and no JSON; None if it is not one of the usual mistakes."""
    start = data[:1024].lstrip()
    if not start and not data[1024:].strip():
        return OtherContent(f"an empty file ({len(data)} bytes)", "copy or download it again")
    if start.startswith(_LFS_START):
        return OtherContent("a git-lfs pointer: the file itself was not downloaded", "run `git lfs pull` in its folder")
    if data.startswith(_ARCHIVES):
        return OtherContent("an archive", "unpack it")
    if start.lower().startswith((b"<!doctype html", b"<html")):
        return OtherContent("a web page", "download the file itself")
    return None
