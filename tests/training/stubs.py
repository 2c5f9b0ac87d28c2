"""Runs with everything real but the detector: a few numbers that learn from the images and their places in the batch.

They compile in a second, so that stopping, killing and resuming can be tried many times. Also a script, for tests that
end processes: python -m tests.training.stubs WORKDIR [--signal SIGKILL --at_step 4] [--coordinator PORT ...].
"""

import argparse
import functools
import itertools
import json
import operator
import os
import signal
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from configs.coco import get_config
from lga_jax.data.challenge.source import Challenge
from lga_jax.evaluation.evaluate import EvalResult
from lga_jax.processes.join import join_processes
from lga_jax.processes.mesh import map_over_devices
from lga_jax.structs import DEVICE_AXIS as AXIS
from lga_jax.structs import TrainState
from lga_jax.training import run as loop
from lga_jax.training import start


def stub_config(**changes):
    config = get_config()
    config.data.train = ConfigDict(dict(source="challenge", num_images=12, seed=0, image_hw=(64, 64)))
    config.data.eval = ConfigDict(dict(source="challenge", num_images=2, seed=1, image_hw=(64, 64)))
    config.data.update(short_edges=(24, 32), eval_short_edge=32, long_edge=32, buckets=((32, 32),), num_workers=2)
    config.model.backbone.update(norm="gn", frozen_stages=0)
    config.optim.update(lr=0.1, lr_batch_size=4, warmup_steps=2, milestones=(5,), ema_decay=0.5)
    config.update(batch_size=4, num_steps=6, log_every=2, checkpoint_every=2, eval_every=3)
    config.update_from_flattened_dict(changes)
    return config


def tiny_config():
    """A real detector, small enough to compile in some seconds."""
    config = stub_config(num_steps=4, checkpoint_every=2)
    config.data.update(short_edges=(48, 64), eval_short_edge=64, long_edge=64, buckets=((64, 64),))
    config.model.update(dtype="float32", backbone=dict(depth=18, width=8, norm="gn", frozen_stages=0))
    config.model.fpn.channels = 16
    config.model.anchors.sizes = (8, 16, 32, 48, 64)
    config.model.anchor_sampling.num_samples = 32
    config.model.proposals.update(pre_nms_train=32, post_nms_train=32, pre_nms_test=32, post_nms_test=32)
    config.model.roi_sampling.num_samples = 16
    config.model.lga.update(reduced_channels=8, hidden=16, close_up_points=3, close_up_channels=8)
    config.model.box_head.hidden = 32
    config.inference.update(max_candidates=64, max_detections=16)
    config.eval_every = 0
    return config


class StubEvaluation:
    """Stands for score_source(); AP is a function of the parameters. `during` is called between two of its batches."""

    def __init__(self, parameter=("conv", "kernel"), during=lambda: None):
        self.parameter, self.during, self.calls = parameter, during, 0

    def __call__(self, predict_step, variables, source, data_config, batch_size, should_stop, progress, **options):
        self.calls += 1
        self.during()
        if multihost_utils.process_allgather(np.array(should_stop())).any():
            return None
        values = functools.reduce(operator.getitem, self.parameter, variables["params"])
        ap = float(jnp.abs(values).sum() % 1.0)
        return EvalResult({"AP": ap, "AP50": ap}, {"tipper": float("nan")}, [], 2, 0, [], None)


def install(monkeypatch, evaluation=None, poison_step=None, step_name="kernel", traced=None, before_step=lambda: None):
    """Puts the stubs into the loop.

    poison_step: the step (from 0) whose loss is not finite.
    traced: takes ("training" or "evaluation", shape of the images) whenever a step is traced.
    before_step: called before each step.
    """
    evaluation = evaluation or StubEvaluation()
    traced = [] if traced is None else traced

    def make_train_step(detector, optimizer, losses, *, ema_decay, seed, images_at_once, extra_losses, dynamic):
        def step(state, batch):
            traced.append(("training", batch.images.shape[1:3]))
            # By position in the global batch, so independent of the number of devices, as in the real step.
            place = jax.lax.axis_index(AXIS) * len(batch.index) + jnp.arange(len(batch.index))
            # jax.random would take a second to compile
            noise = jnp.sin(7.0 * place[:, None] + seed + jnp.arange(3.0) + state.step)

            def loss_fn(params):
                features = batch.images.astype(jnp.float32).mean((1, 2)) / 255 + 0.1 * noise
                loss = jnp.square(features @ params["conv"][step_name] - 1.0).mean() * params["norm"]["scale"]
                return jnp.where(state.step == (-1 if poison_step is None else poison_step), jnp.nan, loss)

            total, grads = jax.lax.pmean(jax.value_and_grad(loss_fn)(state.params), AXIS)
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            ema = optax.incremental_update(params, state.ema_params, 1 - ema_decay)
            order = jax.lax.psum(((place + 1) * (batch.index + 1)).sum(), AXIS)  # which image is where in the batch
            metrics = {"total": total, "grad_norm": optax.tree.norm(grads), "order": order}
            return TrainState(state.step + 1, params, state.batch_stats, opt_state, ema), metrics

        compiled = map_over_devices(step, gather=False, donate=True)

        def call(state, batch):
            before_step()
            return compiled(state, batch)

        call.lower = compiled.lower
        return call

    def make_predict_step(detector, inference):
        def predict(variables, batch):
            traced.append(("evaluation", batch.images.shape[1:3]))
            return batch.index

        return map_over_devices(predict, gather=True)

    def init_variables(detector, seed):
        kernel = jax.random.normal(jax.random.key(seed), (3, 2))
        return {"params": {"conv": {step_name: kernel}, "norm": {"scale": jnp.ones(())}}, "batch_stats": {}}

    monkeypatch.setattr(start, "init_variables", init_variables)
    monkeypatch.setattr(start, "frozen_labels", lambda params, stages: jax.tree.map(lambda _: "trained", params))
    monkeypatch.setattr(loop, "make_train_step", make_train_step)
    monkeypatch.setattr(loop, "make_predict_step", make_predict_step)
    monkeypatch.setattr(loop, "score_source", evaluation)
    return evaluation


def signal_at_step(number_of_signal, number_of_step):
    """For `before_step`: this process gets the signal before that step, counted from 1 where it starts."""
    calls = []

    def before_step():
        calls.append(1)
        if len(calls) == number_of_step:
            os.kill(os.getpid(), number_of_signal)

    return before_step


def _bad_after(count):
    """In place of `Challenge.image`."""
    read, reads = Challenge.image, itertools.count(1)

    def image(source, index):
        if next(reads) > count:
            raise RuntimeError("a disk of its own")
        return read(source, index)

    return image


def _main():
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("--signal")
    parser.add_argument("--at_step", type=int)
    parser.add_argument("--bad_after", type=int, help="images that can be read; later ones raise an error")
    parser.add_argument("--num_steps", type=int, default=6)
    parser.add_argument("--changes", type=json.loads, default={}, help="of the recipe, as JSON")
    parser.add_argument("--num_devices", type=int)
    parser.add_argument("--coordinator", type=int)
    parser.add_argument("--num_processes", type=int, default=1)
    parser.add_argument("--process_id", type=int)
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", args.num_devices or 4 // args.num_processes)
    if args.coordinator:
        join_processes(f"127.0.0.1:{args.coordinator}", args.num_processes, args.process_id)
    before_step = signal_at_step(signal.Signals[args.signal], args.at_step) if args.signal else lambda: None
    if args.bad_after:
        Challenge.image = _bad_after(args.bad_after)
    install(SimpleNamespace(setattr=setattr), before_step=before_step)
    stopped_by = loop.train(stub_config(num_steps=args.num_steps, **args.changes), args.workdir)
    sys.exit(128 + stopped_by if stopped_by else 0)


if __name__ == "__main__":
    _main()
