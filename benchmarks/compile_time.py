"""Start-up time: from starting Python to the end of the first training step, with an empty and a warm cache.

    python -m benchmarks.compile_time

Each measurement is a separate process. The cache is JAX's persistent compilation cache (`JAX_COMPILATION_CACHE_DIR`) in
a temporary folder. `first step` is the call that looks up the compiled program and runs it, `second step` the next
call.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise

from benchmarks import timing

RECIPES = (("configs/coco.py", "800,1344", 1, "float32"), ("configs/challenge.py", "160,160", 16, "float32"))
TINY = (("configs/challenge.py", "64,64", 1, "float32"),)


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for recipe, hw, images, dtype in TINY if args.quick else RECIPES:
        with tempfile.TemporaryDirectory() as cache:
            for state in ("empty", "warm"):
                env = {
                    "JAX_COMPILATION_CACHE_DIR": cache,
                    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
                }
                start = time.perf_counter()
                process = timing.start("compile_time", "--measure", recipe, hw, str(images), dtype, env=env)
                (seconds,) = timing.results(process)
                whole = time.perf_counter() - start
                yield {
                    "table": "The first training step of a process",
                    "what": f"{recipe}, {images} x {' x '.join(hw.split(','))}, {dtype}, {state} cache",
                    "Python and imports, s": whole - sum(seconds.values()),
                    **seconds,
                    "until the first step is done, s": whole - seconds["second step, s"],
                }


def measure(config: str, image_hw: str, images: str, dtype: str) -> dict[str, float]:
    """Seconds per part in this process."""
    import jax
    import optax

    from benchmarks import step

    marks = [("", time.perf_counter())]
    args = argparse.Namespace(config=config, image_hw=image_hw, images=int(images), overrides=[])
    recipe = step.recipe(args, dtype=dtype)
    detector = step.build_detector(recipe.model, step.NUM_CLASSES)
    batch, optimizer = step.random_batch(args), optax.sgd(1e-4, 0.9)
    state = step.create_state(step.init_variables(detector, 0), optimizer, ema=False)
    jax.block_until_ready((state, batch))
    marks.append(("initial state", time.perf_counter()))
    train_step = step.make_train_step(detector, optimizer, recipe.losses.to_dict(), ema_decay=0.0, seed=0)
    lowered = train_step.lower(state, batch)
    marks.append(("tracing", time.perf_counter()))
    lowered.compile()
    marks.append(("compiling", time.perf_counter()))
    for which in ("first", "second"):
        state, _ = jax.block_until_ready(train_step(state, batch))
        marks.append((f"{which} step", time.perf_counter()))
    return {f"{name}, s": mark - last for (_, last), (name, mark) in pairwise(marks)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:  # the measured process
        print(json.dumps(measure(*sys.argv[2:])))
    else:
        timing.main(rows, __doc__)
