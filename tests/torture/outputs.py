"""predict.py and `lga_jax export` on a disk that fails while they write their files."""

import contextlib
import errno
import hashlib
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np

from tests.torture.lives import Fault, Life, digests_below, expect
from tests.torture.processes import Process

COMMANDS = ("predict", "export")


class Outputs:
    """A finished run whose detector is used; each command has been called once without a fault."""

    def __init__(self, finished: Life, scratch: Path) -> None:
        self._finished = finished
        self._expected: dict[str, dict[str, str]] = {}  # command -> SHA-256 of the files
        self._calls: dict[str, int] = {}  # command -> calls that write
        for command in COMMANDS:
            life, output = self._begin(scratch / f"counted_{command}")
            counting = {"FAILING_DISK": str(output), "FAILING_COUNT": str(life.folder / "count")}
            expect(_start(life, command, counting), 0)
            self._expected[command] = _digests(output)
            self._calls[command] = (life.folder / "count").stat().st_size
            shutil.rmtree(life.folder)

    def meet(self, command: str, error: str, folder: Path, rng: np.random.Generator) -> tuple[Life, Process]:
        """Starts the command; its writes fail from a random one on."""
        life, output = self._begin(folder)
        first = int(rng.integers(1, self._calls[command] + 1))
        failing = {
            "FAILING_DISK": str(output),
            "FAILING_FROM": str(first),
            "FAILING_ERRNO": str(getattr(errno, error)),
        }
        return life, _start(life, command, failing)

    def assert_same_files(self, command: str, life: Life) -> None:
        """Every file that is left is whole; the same command into an empty folder writes the same files."""
        output, expected = life.folder / "output", self._expected[command]
        for name, digest in _digests(output).items():
            if expected.get(name) != digest:
                raise Fault(f"{name} is left, and is not what an undisturbed {command} writes")
        shutil.rmtree(output)
        output.mkdir()
        expect(_start(life, command, {}), 0)
        if _digests(output) != expected:
            raise Fault(f"the files of {command} differ from the undisturbed ones")

    def _begin(self, folder: Path) -> tuple[Life, Path]:
        shutil.rmtree(folder, ignore_errors=True)
        life = self._finished.copy(folder)
        for name in ("output", "photos"):
            (folder / name).mkdir()
        rng = np.random.default_rng(0)
        for name in ("a.png", "b.png", "c.jpg"):
            cv2.imwrite(str(folder / "photos" / name), rng.integers(0, 256, (60, 64, 3), np.uint8))
        return life, folder / "output"


def _start(life: Life, command: str, environment: dict[str, str]) -> Process:
    return getattr(life, command)(environment=environment)


def _digests(output: Path) -> dict[str, str]:
    """By file; for an exported detector without its header, which has the date."""
    digests = digests_below(output)
    for file in output.glob("*.stablehlo"):
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
            parts = [archive.read(name) for name in archive.namelist() if name != "header.json"]
            digests[file.name] = hashlib.sha256(b"".join(parts)).hexdigest()
    return digests
