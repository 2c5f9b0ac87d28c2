"""A Predictor of an exported file: the bits of the run's Predictor, and one line for files that do not serve."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lga_jax.data.source import open_source
from lga_jax.errors import UserError
from lga_jax.evaluation.evaluate import evaluate
from lga_jax.inference import exported
from lga_jax.inference.predictor import load
from lga_jax.structs import Batch, Detections
from tests.inference.test_predictor import same
from tests.tiny_run import recipe

RANDOM = np.random.default_rng(1)
IMAGES = [RANDOM.integers(0, 255, (*hw, 3), np.uint8) for hw in ((64, 64), (40, 60), (64, 20), (200, 90), (1, 1))]
EXAMPLE = Path(__file__).parents[2] / "examples" / "run_stablehlo.py"


def refusal(path):
    """The UserError of loading a file, or None."""
    try:
        load(path)
    except UserError as error:
        return error
    return None


@pytest.fixture(scope="module")
def predictor(tiny_exported):
    return load(tiny_exported)


@pytest.fixture
def changed(tiny_exported, tmp_path):
    """A function that writes the file with another header: (header) -> None changes it in place."""

    def write(change):
        path = tmp_path / "changed.stablehlo"
        with zipfile.ZipFile(tiny_exported) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name == exported.HEADER:
                    header = json.loads(data)
                    change(header)
                    data = json.dumps(header).encode()
                new.writestr(name, data)
        return path

    return write


def test_it_gives_what_the_predictor_of_the_run_gives(predictor, tiny_predictor):
    # The same bits with the compiler's usual options; the reduced ones of tests differ in the last digit.
    several = predictor.predict(IMAGES, 0.01, batch_size=2)
    assert all(map(same, several, tiny_predictor.predict(IMAGES, 0.01)))
    assert several == [predictor.predict(image, 0.01) for image in IMAGES]
    assert sum(map(len, several)) > 10


def test_its_names_are_those_of_the_run_and_the_paths_of_the_machine_are_left_out(predictor, tiny_predictor):
    for name in ("class_names", "category_ids", "step", "title"):
        assert getattr(predictor, name) == getattr(tiny_predictor, name)
    assert predictor.recipe.inference == tiny_predictor.recipe.inference
    assert predictor.recipe.data.train.to_dict() == predictor.recipe.data.eval.to_dict() == {}


def test_it_is_scored_on_data_that_are_given(predictor, tiny_predictor):
    settings = recipe().data.eval.to_dict()
    result = evaluate(predictor, settings)
    expected = evaluate(tiny_predictor, open_source(**settings))
    assert [one["category_id"] for one in result.detections] == [one["category_id"] for one in expected.detections]
    assert result.num_images == 5
    with pytest.raises(UserError) as raised:
        evaluate(predictor)
    assert raised.value.subject == "data"


def test_a_threshold_below_that_of_the_file_is_a_users_error(predictor):
    with pytest.raises(UserError) as raised:
        predictor.predict(IMAGES[0], score_threshold=0.001)
    assert raised.value.subject == "score_threshold" and "0.01" in raised.value.expected


# An import of lga_jax raises ImportError until the second half.
ALONE = """
import runpy, sys
sys.modules["lga_jax"] = None
import jax, numpy as np
example, exported, run = sys.argv[1:]
header, detect = runpy.run_path(example)["load"](exported)
with np.load("images.npz") as images:
    found = [detect(images["same"]), detect(images["smaller"])]
np.savez("found.npz", **{f"{number}_{name}": value for number in range(2) for name, value in found[number].items()})

del sys.modules["lga_jax"]
import lga_jax
from lga_jax.inference.images import GivenImages
model = lga_jax.load(run)
located = next(model.locate(GivenImages([np.load("images.npz")["same"]], model.class_names)))
detections = jax.tree.map(lambda leaf: leaf[0][located.detections.valid[0]], located.detections)
print(all(np.array_equal(getattr(detections, name), values) for name, values in found[0].items()))
"""


@pytest.mark.slow
def test_the_example_runs_where_lga_jax_cannot_be_imported_and_gives_the_bits_of_the_predictor(
    tiny_exported, tiny_run, tiny_predictor, tmp_path
):
    np.savez(tmp_path / "images.npz", same=IMAGES[0], smaller=IMAGES[1])
    reduced = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")  # tests/conftest.py
    usual = {name: value for name, value in os.environ.items() if name not in reduced}
    env = usual | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(EXAMPLE.parents[1])}
    command = [sys.executable, "-c", ALONE, EXAMPLE, tiny_exported, tiny_run / "runs" / "tiny"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"]
    found = np.load(tmp_path / "found.npz")
    for number, tolerance in ((0, 1e-3), (1, 0.5)):  # jax resizes the second image, OpenCV for the Predictor
        expected = tiny_predictor.predict(IMAGES[number], 0.01)
        assert list(found[f"{number}_labels"]) == [one.label for one in expected]
        np.testing.assert_allclose(found[f"{number}_boxes"], [one.box for one in expected], atol=tolerance)
        centres = [one.mask_centres for one in expected]
        np.testing.assert_allclose(found[f"{number}_mask_centres"], centres, atol=tolerance)


def test_outputs_are_in_pixels_of_the_original_image(predictor):
    program = predictor._exported._programs[64, 64]
    one, half = (
        program(
            predictor._variables, *jax.device_put((IMAGES[0], np.float32([64, 64]), np.float32(hw)), jax.devices()[0])
        )
        for hw in ([64, 64], [128, 32])
    )
    for name in ("boxes", "rois", "mask_centres", "mask_sigmas"):
        pairs, halved = (np.asarray(found[name]).reshape(-1, 2) for found in (one, half))
        np.testing.assert_allclose(halved, pairs * [0.5, 2.0], rtol=1e-6)
    np.testing.assert_array_equal(one["scores"], half["scores"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (dict(version=99), "version 99"),
        (dict(version=None), "version None"),
        (dict(expires="2020-01-01T00:00:00+00:00", jax="0.4.1"), "expired on 2020-01-01"),
        (dict(platforms=["tpu"]), "cpu"),
        (dict(class_names=None), "class_names"),
        (dict(format="another"), "format"),
        (dict(sizes=[[1, 2]]), "1x2"),
        (dict(sha256={"parameters.npz": "0"}), "parameters.npz"),
    ],
)
def test_a_header_that_does_not_fit_is_one_line(changed, change, found):
    path = changed(lambda header: header.update(change))
    with pytest.raises(UserError) as raised:
        load(path)
    assert raised.value.subject == str(path) and found in str(raised.value) and "\n" not in str(raised.value)


def test_the_jax_that_wrote_a_file_reads_it_for_ever(changed):
    assert load(changed(lambda header: header.update(expires="2020-01-01T00:00:00+00:00"))).step == 7


def test_a_program_that_this_jax_cannot_read_is_one_line(changed):
    def change(header):
        header.update(jax="99.0.0", sha256={"parameters.npz": header["sha256"]["parameters.npz"]})
        header["sha256"]["header.json"] = "0"

    with pytest.raises(UserError):
        load(changed(change))  # names the header among the entries: another digest
    header = {"jax": "99.0.0"}
    with pytest.raises(UserError) as raised:
        exported._deserialize(b"\x00" * 64, header, "x.stablehlo")
    assert raised.value.subject == "x.stablehlo" and "99.0.0" in raised.value.found


def test_a_damaged_file_is_one_line_or_reads_the_same(tiny_exported, tiny_predictor, tmp_path):
    data = tiny_exported.read_bytes()
    path = tmp_path / "damaged.stablehlo"
    places = np.random.default_rng(0).integers(0, len(data), 20)
    damaged = [data[: len(data) // 2], data[:10], b"", b"\x00" * 100]
    for place in [*places, len(data) - 5, len(data) - 100, 20]:
        damaged.append(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        if error := refusal(path):
            refused += 1
            assert error.subject == str(path) and "\n" not in str(error)
        else:
            assert load(path).class_names == tiny_predictor.class_names
    assert refused > 20


@pytest.mark.parametrize("given", [dict(step=7), dict(recipe="coco")])
def test_a_file_has_its_own_step_and_recipe(tiny_exported, given):
    with pytest.raises(UserError) as raised:
        load(tiny_exported, **given)
    assert raised.value.subject == str(tiny_exported)


def _file_of(function, *shapes):
    """A program of any function, as an exported file has it."""
    arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    return bytes(exported.jax_export("it").export(jax.jit(function))(*arguments).serialize())


def test_a_program_that_calls_code_of_the_machine_is_refused():
    with pytest.raises(UserError) as raised:
        exported._deserialize(_file_of(lambda x: tuple(jnp.linalg.qr(x)), (4, 4)), {"jax": jax.__version__}, "it")
    assert (raised.value.subject, raised.value.found[:13]) == ("it", "a custom_call")


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x: x + 1, [(4, 4)]),
        (lambda *arguments: {"boxes": arguments[0]}, [(2,), (64, 64, 3), (2,), (2,)]),
    ],
)
def test_a_program_of_another_form_is_one_line(function, shapes):
    program = exported._deserialize(_file_of(function, *shapes), {"jax": jax.__version__}, "it")
    step = exported.ExportedStep({(64, 64): jax.jit(program.call)})
    batch = Batch(np.zeros((1, 1, 64, 64, 3), np.uint8), np.ones((1, 1, 2), np.float32), None, None, None)
    with pytest.raises(UserError) as raised:
        step.lower({"w": np.ones(2, np.float32)}, batch)
    assert raised.value.subject == "exported file" and "\n" not in str(raised.value)


def test_masks_of_objects_are_an_output_of_detectors_with_a_mask_head():
    pairs, boxes = jnp.zeros((1, 2, 0, 2)), jnp.ones((1, 2, 4))
    found = Detections(
        boxes,
        jnp.ones((1, 2)),
        jnp.zeros((1, 2), int),
        jnp.ones((1, 2), bool),
        boxes,
        pairs,
        pairs,
        jnp.ones((1, 2, 6, 6)),
    )
    outputs = exported.outputs_of(found, jnp.ones(2), jnp.ones(2))
    assert outputs.keys() == set(Detections._fields) and outputs["masks"].shape == (2, 6, 6)
    others = exported.outputs_of(found._replace(masks=jnp.ones((1, 2, 0, 0))), jnp.ones(2), jnp.ones(2))
    assert outputs.keys() - others.keys() == {"masks"}
    assert exported._stacked([others, others]).masks.shape == (1, 2, 2, 0, 0)


def test_an_onnx_file_is_for_onnxruntime(tmp_path):
    path = tmp_path / "detector.onnx"
    path.write_bytes(b"\x08\x08\x12\x07lga_jax")
    error = refusal(path)
    assert error.subject == str(path) and "onnxruntime" in error.remedy
