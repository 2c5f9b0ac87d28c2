"""What stands in an exported file; tests/inference/test_exported.py has what it computes."""

import hashlib
import json
import zipfile
from datetime import UTC, datetime

import jax
import numpy as np

from tests.tiny_run import STEP


def test_the_header_has_names_sizes_settings_versions_and_digests(tiny_exported, tiny_predictor):
    with zipfile.ZipFile(tiny_exported) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(entries.pop("header.json"))
    assert header["class_names"] == list(tiny_predictor.class_names)
    assert (header["score_threshold"], header["max_detections"], header["sizes"]) == (0.01, 8, [[64, 64]])
    assert (header["step"], header["jax"], header["version"]) == (STEP, jax.__version__, 1)
    days = (datetime.fromisoformat(header["expires"]) - datetime.now(UTC)).days
    assert 170 < days <= 180
    assert header["sha256"] == {name: hashlib.sha256(data).hexdigest() for name, data in entries.items()}


def test_one_program_serves_all_platforms_without_forms_of_the_cpu_in_the_others(tiny_exported):
    with zipfile.ZipFile(tiny_exported) as archive:
        program = jax.export.deserialize(bytearray(archive.read("64x64.bin")))
    assert program.platforms == ("cpu", "cuda", "tpu")
    image = program.in_avals[-3]
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
    # The forms are chosen by the platform where the program runs: branches over a platform index.
    assert "stablehlo.case" in program.mlir_module()


def test_the_file_has_no_paths_of_source_files(tiny_exported):
    with zipfile.ZipFile(tiny_exported) as file:
        content = b"".join(map(file.read, file.namelist()))
    assert b".py" not in content and b"lga_jax" in content  # the header names the package
    assert jax.config.jax_traceback_in_locations_limit  # of other programs they stay
