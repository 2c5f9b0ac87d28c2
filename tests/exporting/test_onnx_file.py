"""The ONNX file of a run gives the detections of its Predictor."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lga_jax.checkpoints.read import Saved
from lga_jax.data.augment.view import evaluation_view, see_image
from lga_jax.errors import UserError
from lga_jax.exporting.export import export
from lga_jax.exporting.onnx_file import onnx_file
from tests.exporting.onnx_writer.running import session_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "run_onnx.py"
RNG = np.random.default_rng(1)
SIZES = ((64, 64), (40, 60), (64, 20), (200, 90), (31, 33), (1, 1))


@pytest.fixture(scope="module")
def session(tiny_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "detector.onnx"
    export(tiny_run / "runs" / "tiny", path)
    return session_of(path.read_bytes())


def detect(session, image, data):
    """Outputs by name, for an image that is resized as in evaluation."""
    view = evaluation_view(image.shape[:2], (64, 64), data)
    padded = np.full((64, 64, 3), 77, np.uint8)  # the padding has no influence
    see_image(padded[: view.resized_hw[0], : view.resized_hw[1]], image, view, data.resize)
    inputs = dict(image=padded, image_hw=np.float32(view.resized_hw), original_hw=np.float32(image.shape[:2]))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_the_example_runs_with_onnxruntime_and_numpy_alone(session, tiny_run, tiny_predictor, tmp_path):
    export(tiny_run / "runs" / "tiny", tmp_path / "detector.onnx")
    images = [RNG.integers(0, 255, (*hw, 3), np.uint8) for hw in ((64, 64), (90, 40))]
    np.savez(tmp_path / "images.npz", *images)
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys(("lga_jax", "jax", "onnx", "cv2")))  # an import of them raises ImportError
import numpy as np
class_names, detect = runpy.run_path({str(EXAMPLE)!r})["load"]("detector.onnx")
with np.load("images.npz") as images:
    found = [detect(image) for image in images.values()]
np.savez("found.npz", **{{f"{{n}}_{{name}}": x for n, one in enumerate(found) for name, x in one.items()}})
print(class_names)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(list(tiny_predictor.class_names))
    found = np.load(tmp_path / "found.npz")
    for number, tolerance in ((0, 2e-3), (1, 0.5)):  # the second image is resized, by OpenCV for the Predictor
        expected = tiny_predictor.predict(images[number], 0.01)
        assert list(found[f"{number}_labels"]) == [one.label for one in expected]
        np.testing.assert_allclose(found[f"{number}_boxes"], [one.box for one in expected], atol=tolerance)


@pytest.mark.parametrize("hw", SIZES)
def test_detections_are_those_of_the_predictor(session, tiny_predictor, hw):
    image = np.random.default_rng(sum(hw)).integers(0, 255, (*hw, 3), np.uint8)
    expected = tiny_predictor.predict(image, 0.01)
    found = detect(session, image, tiny_predictor.recipe.data)
    assert found["valid"].sum() == len(expected) > 0
    for one in expected:
        # Random weights give scores that are equal but for rounding: the order of such detections is free.
        equal = (found["labels"] == one.label) & (np.abs(found["scores"] - one.score) < 1e-5)
        distances = np.abs(found["boxes"] - one.box).max(axis=1)
        number = np.where(equal, distances, np.inf).argmin()
        assert equal[number] and distances[number] < 2e-3
        np.testing.assert_allclose(found["mask_centres"][number], one.mask_centres, atol=2e-3)
        np.testing.assert_allclose(found["mask_sigmas"][number], one.mask_sigmas, atol=2e-3)
    for name, values in found.items():
        assert not values[~found["valid"]].any(), name


def test_names_and_settings_are_in_the_file(session, tiny_predictor):
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == list(tiny_predictor.class_names)
    assert json.loads(about["category_ids"]) == list(tiny_predictor.category_ids)
    assert json.loads(about["resizing"])["eval_short_edge"] == 64
    assert (about["version"], about["score_threshold"]) == ("1", "0.01")


def test_float16_halves_the_file_and_finds_nearly_the_same(session, tiny_run, tiny_predictor, tmp_path):
    sizes = {}
    for dtype in ("float32", "float16"):
        export(tiny_run / "runs" / "tiny", tmp_path / f"{dtype}.onnx", dtype=dtype)
        sizes[dtype] = (tmp_path / f"{dtype}.onnx").stat().st_size
    half = session_of((tmp_path / "float16.onnx").read_bytes())
    assert half.get_modelmeta().custom_metadata_map["dtype"] == "float16"
    assert sizes["float16"] < 0.65 * sizes["float32"]  # the anchors stay float32
    image = RNG.integers(0, 255, (64, 64, 3), np.uint8)
    one, other = (detect(model, image, tiny_predictor.recipe.data) for model in (session, half))
    assert one["boxes"].dtype == other["boxes"].dtype == np.float32
    np.testing.assert_allclose(np.sort(one["scores"]), np.sort(other["scores"]), atol=2e-3)
    assert not np.array_equal(one["scores"], other["scores"])


def computed_in_float32(data):
    """The bytes of a bfloat16 model whose operators compute in float32: onnxruntime has none for bfloat16."""
    model = onnx.load_from_string(data)
    model.opset_import[0].version = 21  # of opset 22, onnxruntime's RoiAlign is missing too
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.BFLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        if node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.BFLOAT16:
            node.attribute[0].i = onnx.TensorProto.FLOAT
    return model.SerializeToString()


def test_bfloat16_halves_the_file_and_has_the_weights_rounded(session, tiny_run, tiny_predictor, tmp_path):
    path, full = tmp_path / "bfloat16.onnx", tmp_path / "float32.onnx"
    export(tiny_run / "runs" / "tiny", path, dtype="bfloat16")
    export(tiny_run / "runs" / "tiny", full)
    assert path.stat().st_size < 0.75 * full.stat().st_size  # the graph itself has no weights
    model = onnx.load(path)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    assert convs and all(kinds[node.input[1]] == onnx.TensorProto.BFLOAT16 for node in convs)
    rounded = session_of(computed_in_float32(path.read_bytes()))
    assert rounded.get_modelmeta().custom_metadata_map["dtype"] == "bfloat16"
    image = RNG.integers(0, 255, (64, 64, 3), np.uint8)
    one, other = (detect(found, image, tiny_predictor.recipe.data) for found in (session, rounded))
    np.testing.assert_allclose(np.sort(one["scores"]), np.sort(other["scores"]), atol=2e-2)
    assert not np.array_equal(one["scores"], other["scores"])


def test_several_sizes_are_a_users_error(tiny_predictor):
    saved = Saved(7, "the latest", {}, {})
    with pytest.raises(UserError) as raised:
        onnx_file(saved, tiny_predictor.recipe, tiny_predictor._detector, [(64, 96), (96, 64)], "run")
    assert raised.value.subject == "size" and "64x96" in raised.value.remedy
