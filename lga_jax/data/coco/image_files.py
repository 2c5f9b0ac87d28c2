"""Finds the image file of each `file_name` of an annotation file, also where a tool writes the name differently.

Every file found is inside the image folder, whatever the name says. Symbolic links in the folder are followed.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from lga_jax.data.coco.faults import Fault
from lga_jax.errors import counted, listed, shown

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|\\\\)|data:")
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")

# How a name may differ from the name of its file.
_BACKSLASH = "backslashes for /"
_CODES = "codes such as %20"
_FOLDER = "the path to the image folder before it"
_UNICODE = "another Unicode form of the same letters"
_CASE = "another case of the extension"
_NO_SUFFIX = "no extension"

# kind: expected, remedy
_FAULTS = {
    "file_name_url": ("the name of a file in the image folder", "download the images and write their file names"),
    "file_name_absolute": (
        "a path relative to the image folder",
        "make it relative, or name the folder in `images` of the recipe",
    ),
    "file_name_outside": ("a path inside the image folder, without '..'", "move the image there and correct the name"),
    "file_name_ambiguous": ("a name that fits one file, and a file for each name", "correct the name"),
}


class Match(NamedTuple):
    """A file that fits a name."""

    path: str  # relative to the image folder
    changes: tuple[str, ...]  # differences between the name and the path; empty if they are equal


class ImageFiles(NamedTuple):
    """The image files of an annotation file; keys are positions in 'images'."""

    paths: dict[int, str]  # relative to the image folder; as written for faulty names
    changes: dict[int, tuple[str, ...]]  # for each name that is not the name of its file
    faults: list[Fault]


def find_image_files(folder: str | os.PathLike, written: Mapping[int, str]) -> ImageFiles:
    """The file of each name. A name without a file of exactly this name matches if exactly one file fits it.

    Args:
        folder: the image folder.
        written: position in 'images' -> `file_name`.
    """
    tree = _Tree(folder)
    paths, changes, faulty = dict(written), {}, defaultdict(list)
    exact = {position for position, name in written.items() if tree.has(name)}
    matches = {position: tree.fitting(name) for position, name in written.items() if position not in exact}
    names_of = defaultdict(set)  # of each file
    for position, name in written.items():
        for match in [Match(name, ())] if position in exact else matches[position]:
            names_of[match.path].add(name)
    for position, found in matches.items():
        if len(found) == 1 and len(names_of[found[0].path]) == 1:
            paths[position], changes[position] = found[0]
        else:
            faulty[_kind(written[position], found)].append(position)
    return ImageFiles(paths, changes, list(_faults(faulty, written, matches, tree)))


def describe_changes(written: Mapping[int, str], files: ImageFiles) -> list[str]:
    """One report line about all names that differ from the names of their files, if there are any."""
    if not files.changes:
        return []
    count = Counter(change for changes in files.changes.values() for change in changes)
    first = next(iter(files.changes))
    how = ", ".join(f"{change} ({number:,})" for change, number in count.items())
    example = f"first {shown(written[first])} is {shown(files.paths[first])}"
    return [f"{counted(len(files.changes), 'file name')} differ from the names of the files: {how}; {example}"]


def _kind(name: str, found: Sequence[Match]) -> str:
    if found:
        return "file_name_ambiguous"
    if _URL.match(name):
        return "file_name_url"
    if _ABSOLUTE.match(name):
        return "file_name_absolute"
    return "file_name_outside" if ".." in _parts(name.replace("\\", "/")) else "file_missing"


def _faults(
    faulty: Mapping[str, list[int]], written: Mapping[int, str], matches: Mapping[int, Sequence[Match]], tree: "_Tree"
) -> Iterator[Fault]:
    for kind, (expected, remedy) in _FAULTS.items():
        if positions := faulty.get(kind):
            first = positions[0]
            files = [shown(match.path) for match in matches[first]]
            found = shown(written[first]) + (f", which fits {listed(files, 3)}" if files else "")
            more = f" (and {len(positions) - 1:,} more)" if len(positions) > 1 else ""
            subject = f"images[{first}].file_name"
            yield Fault(f"images.{kind}", "images", positions, subject, expected, found + more, remedy)
    if missing := faulty.get("file_missing"):
        found = f"{len(missing)} of {len(written)} missing, first {shown(written[missing[0]])}"
        if len(missing) == len(written):
            found += f"; the folder has {tree.describe()}"
        yield Fault(
            kind="images.file_missing",
            section="images",
            positions=missing,
            subject="files",
            expected="all images of the annotation file",
            found=found,
            remedy="add them or correct the image folder",
        )


class _Tree:
    """The files below a folder. Each folder is listed once: a lookup for each of 118,000 files would take longer."""

    def __init__(self, root: str | os.PathLike) -> None:
        self._root = os.fspath(root)
        self._folder_name = _composed(os.path.basename(os.path.abspath(root)))
        self._listings: dict[str, frozenset[str]] = {}
        self._similar: dict[str, dict[str, set[str]]] = {}

    def has(self, name: str) -> bool:
        """Whether a file has exactly this name."""
        if os.path.isabs(name) or ".." in _parts(name):
            return False
        parent, base = os.path.split(name)
        return base in self._listing(parent)

    def fitting(self, name: str) -> list[Match]:
        """All files that the name may mean."""
        found: dict[str, tuple[str, ...]] = {}
        if not _URL.match(name):
            for parts, changes in _readings(name, self._folder_name):
                for path in self._paths(parts):
                    found.setdefault(path, changes + _differences("/".join(parts), path))
        return [Match(path, changes) for path, changes in found.items()]

    def describe(self) -> str:
        """The number of entries of the folder, and the first."""
        names = sorted(self._listing(""))
        return f"{len(names):,} entries, first {shown(names[0])}" if names else "no entries"

    def _paths(self, parts: Sequence[str]) -> list[str]:
        folders = [""]
        for part in parts[:-1]:
            folders = [os.path.join(above, name) for above in folders for name in self._named(above, _composed(part))]
        return sorted(os.path.join(above, name) for above in folders for name in self._files(above, parts[-1]))

    def _files(self, folder: str, name: str) -> set[str]:
        stem, suffix = os.path.splitext(_composed(name))
        if suffix.lower() in SUFFIXES:
            return self._named(folder, stem + suffix.lower())
        without = (self._named(folder, stem + suffix + other) for other in SUFFIXES)
        return self._named(folder, stem + suffix) or set().union(*without)

    def _named(self, folder: str, key: str) -> set[str]:
        """The entries with a similar name. `key` is composed, with the extension of an image in lower case."""
        if folder not in self._similar:
            self._similar[folder] = defaultdict(set)
            for name in self._listing(folder):
                stem, suffix = os.path.splitext(_composed(name))
                lower = suffix.lower()
                self._similar[folder][stem + (lower if lower in SUFFIXES else suffix)].add(name)
        return self._similar[folder].get(key, set())

    def _listing(self, folder: str) -> frozenset[str]:
        if folder not in self._listings:
            try:
                self._listings[folder] = frozenset(os.listdir(os.path.join(self._root, folder)))
            except (OSError, ValueError):  # no such folder, or an impossible folder name
                self._listings[folder] = frozenset()
        return self._listings[folder]


def _readings(name: str, folder_name: str) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """The paths that a name may mean, relative to the image folder, with the changes that each reading makes."""
    for text, changes in _spellings(name):
        parts = _parts(text)
        if parts and ".." not in parts and not _ABSOLUTE.match(text):
            yield parts, changes
        for end, part in enumerate(parts[:-1], start=1):
            if _composed(part) == folder_name and ".." not in parts[end:]:
                yield parts[end:], (*changes, _FOLDER)


def _spellings(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield name, ()
    decoded, slashes = unquote(name), name.replace("\\", "/")
    if decoded != name:
        yield decoded, (_CODES,)
    if slashes != name:
        yield slashes, (_BACKSLASH,)
    if decoded != name and (both := decoded.replace("\\", "/")) != decoded:
        yield both, (_CODES, _BACKSLASH)


def _differences(wanted: str, path: str) -> tuple[str, ...]:
    """How the last reading of a name differs from the path of the file."""
    path, composed = path.replace(os.sep, "/"), (_composed(wanted), _composed(path.replace(os.sep, "/")))
    if wanted == path:
        return ()
    if composed[0] == composed[1]:
        return (_UNICODE,)
    return (_CASE,) if composed[0].lower() == composed[1].lower() else (_NO_SUFFIX,)


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
