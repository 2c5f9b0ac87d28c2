"""What is counted in a compiled program: a text small enough to count by hand, and what real compilers make."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks.accelerators import cost, hlo, report
from benchmarks.accelerators.targets import TARGETS, compile_for, is_installed, lower_for

H100 = TARGETS["h100"]
ROW, TABLE = 4 * 8 * 4, 100 * 8 * 4  # bytes


@pytest.fixture(scope="module")
def program():
    return hlo.read(Path(__file__).with_name("program.hlo").read_text())


@pytest.fixture(scope="module")
def by_name(program):
    return {one.kernel.name: one for one in cost.costs(program, H100)}


def test_a_loop_counts_its_body_as_often_as_it_runs(program):
    runs = [times for times, kernel, _ in program.kernels() if kernel.name == "double"]
    assert runs == [3, 4, hlo.ASSUMED_TRIPS]
    assert [loop.name for loop in report.open_loops(program)] == ["while.2", "while.3"]


def test_bytes_are_those_that_a_kernel_touches(by_name):
    assert by_name["double"].bytes == 3 * TABLE
    assert by_name["crop"].bytes == ROW + 4 * 4 + ROW  # the rows that are taken, their numbers, the result
    assert by_name["back"].bytes == 4 * 4 + ROW + 2 * ROW  # the rows that change are read and written
    assert by_name["copy.1"].bytes == 2 * TABLE


def test_operations_of_products_and_convolutions(by_name):
    assert by_name["product"].flops == 2 * 16 * 32 * 8
    assert by_name["conv"].flops == 2 * (2 * 10 * 10 * 4) * 8 * 9
    assert by_name["crop"].flops == 0


def test_gradients_of_a_convolution_cost_as_much_as_the_convolution():
    shapes = dict(x="bf16[2,10,10,8]{3,2,1,0}", kernel="bf16[4,3,3,8]{3,2,1,0}", y="bf16[2,10,10,4]{3,2,1,0}")
    rest = 'window={{size=3x3}}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$conv{}"'
    found = [
        cost._library_flops(
            hlo.Instruction("g", f"({shapes[out]}, u8[0])", "custom-call", names, rest.format(kind)), shapes
        )
        for names, out, kind in (
            (("x", "kernel"), "y", "Forward"),
            (("x", "y"), "kernel", "BackwardFilter"),
            (("y", "kernel"), "x", "BackwardInput"),
        )
    ]
    assert len({*found}) == 1


def test_the_floor_is_the_larger_one_of_traffic_and_operations_and_at_least_a_launch(program, by_name):
    assert by_name["conv"].seconds == H100.launch
    slow = {one.kernel.name: one for one in cost.costs(program, H100._replace(bandwidth=1.0, flops=1e9, launch=0.0))}
    assert slow["double"].seconds == hlo.ASSUMED_TRIPS * 3 * TABLE


def test_kernels_belong_to_parts_of_the_model(by_name):
    parts = {name: by_name[name].part for name in ("double", "crop", "product", "copy.1")}
    expected = ("backbone", "RoIAlign, backward", "FPN", "losses, optimizer, rest")
    assert tuple(parts.values()) == expected


def test_sorts_cycles_and_largest_results(program, by_name):
    assert report.sorted_sides(program) == [100]
    assert by_name["product"].kernel.cycles == 77
    assert report.largest(program)[0].startswith("f32[100,8]")


@pytest.mark.parametrize("name", TARGETS)
def test_the_real_compiler_agrees(name):
    """A product of two parts of a batch: its operations are known."""
    target = TARGETS[name]
    if not is_installed(target):
        pytest.skip(f"{target.plugin} is not installed; `make accelerators` installs it")

    def function(weights, x):
        return jax.lax.pmean(x @ weights, "devices")

    arguments = (jax.ShapeDtypeStruct((256, 128), jnp.bfloat16), jax.ShapeDtypeStruct((512, 256), jnp.bfloat16))
    compiled = compile_for(target, function, arguments, num_devices=2)
    found = [*cost.costs(hlo.read(compiled.as_text()), target)]
    assert sum(one.runs * one.flops for one in found) == 2 * 512 * 256 * 128
    assert report.num_all_reduces(lower_for(target, function, arguments, num_devices=2).as_text()) == 1
