"""What the compiler is given: the program of a training step, read before any backend has had its say."""

import re

import jax
import optax
import pytest

from lga_jax.models.build import build_detector, init_variables
from lga_jax.ops import topk
from lga_jax.training.step import create_state, make_train_step
from tests.models import tiny
from tests.training.test_step import LOSSES, make_batch

NUM_ANCHORS = 3 * sum(-(-64 // stride) * -(-96 // stride) for stride in (4, 8, 16, 32, 64))


@pytest.fixture(scope="module", params=["none", "lga"])
def step_and_arguments(request):
    config = tiny.model_config(dtype="bfloat16", attention=request.param)
    config.backbone.update(norm="frozen_bn", frozen_stages=2)
    detector = build_detector(config, tiny.NUM_CLASSES)
    optimizer = optax.sgd(0.01, 0.9)
    step = make_train_step(detector, optimizer, LOSSES, ema_decay=0.0, seed=0)
    return step, (create_state(init_variables(detector, 0), optimizer, ema=False), make_batch(4))


@pytest.fixture(scope="module", params=["cuda", "tpu"])
def platform(request):
    return request.param


@pytest.fixture(scope="module")
def program(platform, step_and_arguments):
    """Lowered for an accelerator, which need not be there: on CPUs some operations have forms of their own."""
    step, arguments = step_and_arguments
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "_CHUNKS", ((32, 64), (40, 128)))  # as short as the rows of a small image
        return jax.jit(step).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def operations(program, name):
    """The types behind the colon of each operation: operands and result."""
    return [line.rsplit(" : ", 1)[1] for line in program.splitlines() if f"stablehlo.{name}" in line]


def test_every_convolution_and_nearly_every_product_is_in_bfloat16(program, step_and_arguments):
    assert (convolutions := operations(program, "convolution"))
    assert not [types for types in convolutions if re.search(r"xf32|xf64", types)]
    products = operations(program, "dot_general")
    wide = [types for types in products if "xf32" in types]
    # The Gaussians' parameters and the guide's classifier are small and stay float32; whole crops do not.
    assert len(wide) < 0.2 * (len(products) + len(convolutions))
    channels = step_and_arguments[1][0].params["fpn"]["lateral2"]["kernel"].shape[-1]
    assert not [types for types in wide if f"x7x7x{channels}xf32" in types.split("->")[0]]
    assert "f64" not in program


def test_nothing_in_the_step_returns_to_the_host(program):
    assert not re.findall(r"callback|infeed|outfeed|stablehlo\.send|stablehlo\.recv", program)


def test_the_state_is_updated_in_place(step_and_arguments):
    """Every array of the state, two for each parameter and the constants, shares its buffer with a result."""
    step, arguments = step_and_arguments
    program = step.lower(*arguments).as_text()
    arguments = program.split("func.func public @main(")[1].split(") ->")[0]
    donated = arguments.count("tf.aliasing_output") + arguments.count("jax.buffer_donor")
    assert donated > 0.9 * arguments.count("%arg") - 6  # images, boxes, ...: the batch is not given away


def test_every_loop_has_a_known_number_of_passes(program):
    """A GPU copies the condition of any other loop to the host before every pass."""
    conditions = re.findall(r"cond \{(.*?)\} do \{", program, re.DOTALL)
    assert len(conditions) == len(operations(program, "while"))
    for condition in conditions:
        assert re.search(r"stablehlo\.compare +LT, %iterArg\w*, .*tensor<i32>", condition)


def test_loops_are_few(platform, program):
    """One for NMS of all levels of all images; the others draw random bits, or scatter RoIs' gradients on a TPU."""
    loops = [types for types in operations(program, "while") if "ui32" not in types]
    assert len(loops) == {"cuda": 0, "tpu": 2}[platform]
    assert len([types for types in operations(program, "while") if re.match(r"tensor<i32>, tensor<4x5x", types)]) <= 1


def test_no_sort_of_all_anchors_on_a_gpu(platform, program, step_and_arguments):
    rows = {int(row) for row in re.findall(r"chlo\.top_k\(.*?x(\d+)xf32> ->", program)}
    assert rows and (max(rows) < NUM_ANCHORS) == (platform == "cuda")


def test_each_array_is_averaged_once(platform, program, step_and_arguments):
    """Gradients and metrics; not the constants of frozen norms, two thirds of the arrays of a ResNet-50."""
    state = step_and_arguments[1][0]
    num_metrics = 7 if "attention" in state.params else 6
    in_one_array = platform == "cuda"
    expected = 1 if in_one_array else len(jax.tree.leaves(state.params)) + num_metrics
    assert program.count("stablehlo.all_reduce") == expected
