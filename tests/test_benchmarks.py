"""What the benchmarks count and how they split the step; the times themselves are nobody's to test."""

import argparse

import jax
import jax.numpy as jnp
import pytest

from benchmarks import bench, scaling, step, timing
from lga_jax.models.build import build_detector, init_variables
from lga_jax.ops.cpu.conv import conv2d


def test_callables_take_turns(monkeypatch):
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    calls = []
    taken = timing.in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3)
    assert "".join(calls) == "aabb" + "ababab"
    assert [len(seconds) for seconds in taken.values()] == [3, 3]
    assert timing.ratio([2.0, 9.0, 4.0], [1.0, 1.0, 2.0]) == 2.0


def test_on_a_slow_machine_a_measurement_has_fewer_rounds(monkeypatch):
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(timing, "MOST_SECONDS", -1)
    assert len(timing.in_turn({"a": lambda: None}, rounds=3)["a"]) == 1


def test_slow_products_are_smaller(monkeypatch):
    """A product of side n takes (n / 512)^3 / 4 seconds."""
    monkeypatch.setattr(timing, "_seconds", lambda side, repeats: (side / 512) ** 3 / 4)
    assert timing._side_for(3072, lambda side: side) == 512
    monkeypatch.setattr(timing, "_seconds", lambda side, repeats: 1e-6)
    assert timing._side_for(3072, lambda side: side) == 3072


@pytest.mark.parametrize("stride", [1, 2])
def test_flops_of_a_convolution_and_its_gradient(stride):
    x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 5))

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    forward = 2 * (8 // stride) ** 2 * 5 * 27
    assert timing.matmul_flops(convolve, x, kernel) == forward
    # A gradient costs as much as the convolution, for the input and for the kernel.
    both = jax.grad(lambda x, kernel: jnp.sum(convolve(x, kernel) ** 2), argnums=(0, 1))
    assert timing.matmul_flops(both, x, kernel) == 3 * forward


def test_flops_are_those_of_the_plain_convolution_also_in_winograds_form():
    x, kernel = jnp.ones((1, 80, 80, 128)), jnp.ones((3, 3, 128, 128))
    both = jax.grad(lambda x, kernel: jnp.sum(conv2d(x, kernel) ** 2), argnums=(0, 1))
    assert timing.matmul_flops(both, x, kernel) == 3 * 2 * 80**2 * 128 * 9 * 128


def test_flops_of_products_in_loops_and_of_what_nobody_reads():
    a = jnp.ones((4, 5))

    def repeated(a):
        unused = a @ a.T  # noqa: F841
        return jax.lax.scan(lambda total, _: (total + jax.jit(jnp.matmul)(a, a.T).sum(), None), 0.0, length=7)[0]

    assert timing.matmul_flops(repeated, a) == 7 * 2 * 4 * 4 * 5


def test_least_bytes_and_share_of_the_peak():
    assert timing.least_bytes(lambda a: a[:2].astype(jnp.bfloat16), jnp.ones((4, 8))) == 4 * 32 + 2 * 16
    machine = timing.Machine("", {"float32": 10.0}, bandwidth=2.0)
    assert machine.share(1.0, 5e9, 1e8) == {"share of peak": 0.5, "bound by": "FLOP/s"}
    assert machine.share(1.0, 1e8, 1e9) == {"share of peak": 0.5, "bound by": "bandwidth"}


def test_markdown_has_a_table_for_each_heading_and_a_column_for_each_key():
    rows = [
        {"table": "A", "what": "x", "ms": 1234.5, "note": "Said once."},
        {"table": "B", "what": "y", "share of peak": 0.031},
        {"table": "A", "what": "z", "goal": "<= 2", "note": "Said once."},
    ]
    assert timing.markdown(rows).split("\n") == [
        "### A",
        "",
        "| what | ms | goal |",
        "|---|---|---|",
        "| x | 1,234 |  |",
        "| z |  | <= 2 |",
        "",
        "Said once.",
        "",
        "### B",
        "",
        "| what | share of peak |",
        "|---|---|",
        "| y | 3 % |",
    ]


@pytest.fixture(scope="module")
def arguments():
    overrides = [*step.TINY, "--config.model.attention=lga"]
    return argparse.Namespace(config="configs/coco.py", overrides=overrides, image_hw="64,96", images=1)


def test_a_recipe_takes_changes_from_the_command_line(arguments):
    config = step.recipe(arguments, dtype="float32")
    assert (config.model.fpn.channels, config.model.dtype, config.model.attention) == (16, "float32", "lga")


@pytest.mark.parametrize(("training", "order"), [(True, step.TRAINING), (False, step.INFERENCE)])
def test_every_stage_of_the_detector_is_seen_and_costs_no_less_than_the_one_before(arguments, training, order):
    config = step.recipe(arguments, dtype="float32")
    detector = build_detector(config.model, step.NUM_CLASSES)
    variables = jax.eval_shape(lambda: init_variables(detector, 0))
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), step.random_batch(arguments))
    seen = {}
    jax.eval_shape(lambda v, b: seen.update(step.observe(detector, v, b, training)[1]), variables, batch)
    assert set(seen) == set(order) - {"losses", "detections"}
    counts = [timing.matmul_flops(step.prefix(detector, config, s, training), variables, batch) for s in order]
    assert counts == sorted(counts)
    growing = ("backbone", "FPN", "RPN head", "attention", "box head")
    assert all(counts[order.index(stage)] > ([0, *counts])[order.index(stage)] for stage in growing)


def test_the_report_has_all_tables_and_the_plots(tmp_path):
    machine = [
        {"table": "The machine", "what": "product", "dtype": "float32", "best, GFLOP/s": 100.0, "note": "A machine."},
        {"table": "The machine", "what": "update", "best, GB/s": 10.0},
    ]
    rows = [
        {"table": "Time over images", "what": f"{size:,}", "median, ms": ms, "min, ms": ms, "max, ms": ms}
        for size, ms in ((1, 2.0), (2, 3.5), (4_096, 7.0))
    ]
    part = {"command": "python -m benchmarks.scaling", "seconds": 1.0, "machine": machine, "rows": rows}
    page = bench.page({"scaling": part}, tmp_path)
    for text in ("### Time over images", "| 4,096 | 7 |", "![scaling](scaling.png)", "A machine.", "## The machine"):
        assert text in page
    assert (tmp_path / "scaling.png").stat().st_size < 100_000
    assert scaling.plots(rows, tmp_path) == ["scaling.png"]
