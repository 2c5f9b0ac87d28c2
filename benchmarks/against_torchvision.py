"""Compares lga_jax with torchvision: Faster R-CNN R50-FPN, same weights, alternating on the same machine.

    python -m benchmarks.against_torchvision

Inference goes from uint8 images on the host to detections on the host. A training step is forward, backward and SGD
with momentum; stem and first stage are frozen. Images are 800 x 1088 with 20 boxes each. lga_jax runs
configs/coco_torchvision_v1.py, with torchvision's numbers of proposals, samples and detections, without attention (its
cost is in benchmarks/step.py). torchvision runs eagerly, its usual mode, in channels_last, in bfloat16 with autocast;
`--form contiguous` is torch's default. The two programs are separate processes; one waits while the other runs. Each
turn is two calls and only the second is measured, because the first follows the other program with its memory and
caches. lga_jax has huge pages, as its commands take them (lga_jax/command_line/huge_pages.py); torchvision has usual
pages and, in rows of its own, huge ones. Ratios are to torchvision with usual pages. `CPU-s` is the time of all
threads. Peak memory is the device's if the device reports it, otherwise the whole process's. Needs torch and
torchvision (the extra `bench`).
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import timing

HEIGHT, WIDTH, NUM_BOXES, NUM_CLASSES = 800, 1088, 20, 90
TABLE = "Against torchvision"
HUGE_PAGES = "huge_pages"


class Program(NamedTuple):
    """The program of a process; as text, its command line."""

    library: str  # "lga_jax" or "torchvision"
    dtype: str
    form: str  # "channels_last" or, torchvision only, "contiguous"
    pages: str  # of memory: "huge_pages" or "usual_pages"

    def __str__(self) -> str:
        return " ".join(self)


GOALS = {  # time of lga_jax / time of torchvision
    ("inference", "cpu", "float32"): 0.7,
    ("training step", "cpu", "float32"): 0.7,
    ("inference", "cpu", "bfloat16"): 0.8,
    ("training step", "cpu", "bfloat16"): 0.8,
    ("inference", "gpu", "bfloat16"): 0.4,
    ("training step", "gpu", "bfloat16"): 0.5,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--tasks", nargs="+", default=["inference", "training step"])
    parser.add_argument("--form", default="channels_last", choices=["channels_last", "contiguous"])


def rows(args: argparse.Namespace) -> Iterator[dict]:
    platform = "cpu" if "(cpu)" in args.machine.line else "gpu"
    batches = {"inference": (1, 8), "training step": (2,) if platform == "cpu" else (2, 16)}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.safetensors")
        subprocess.run([sys.executable, "-m", "benchmarks.against_torchvision", "--weights", weights], check=True)
        for task in args.tasks:
            for batch in batches[task][:1] if args.quick else batches[task]:
                for dtype in args.dtypes:
                    yield from compare(task, batch, dtype, platform, weights, args)


def compare(
    task: str, batch: int, dtype: str, platform: str, weights: Path, args: argparse.Namespace
) -> Iterator[dict]:
    theirs = Program("torchvision", dtype, args.form, "usual_pages")
    ours = Program("lga_jax", dtype, "channels_last", HUGE_PAGES)
    programs = (theirs, theirs._replace(pages=HUGE_PAGES), ours) if platform == "cpu" else (theirs, ours)
    rounds = args.rounds if platform == "gpu" else min(args.rounds, 2 if batch == 8 else 3)  # half a minute each
    seconds: dict[Program, list[Seconds]] = {program: [] for program in programs}
    with ExitStack() as stack:
        processes = {
            program: stack.enter_context(_process(program, task, batch, weights, args.quick)) for program in programs
        }
        for _ in range(rounds):
            for program, process in processes.items():
                seconds[program].append(process.call())
        peaks = {program: process.peak() for program, process in processes.items()}
    wall, cpu = by_kind(seconds)
    for program in programs:
        median = float(np.median(wall[program]))
        yield {
            "table": TABLE,
            "what": f"{task}, batch {batch}, {program}",
            **timing.spread(wall[program]),
            "CPU-s": float(np.median(cpu[program])),
            "images/s": batch / median,
            "time / torchvision's": timing.ratio(wall[program], wall[theirs]),
            "CPU time / torchvision's": timing.ratio(cpu[program], cpu[theirs]),
            "goal": f"<= {goal}" if program is ours and (goal := GOALS.get((task, platform, dtype))) else "",
            "peak memory, MiB": peaks[program],
            "memory / torchvision's": peaks[program] / peaks[theirs],
        }


def _process(program: Program, task: str, batch: int, weights: Path, quick: bool) -> "Process":
    flags = ["--program", *program, "--task", task, "--batch", str(batch), "--weights", str(weights)]
    return Process("against_torchvision", *flags, *["--quick"] * quick, huge_pages=program.pages == HUGE_PAGES)


class Seconds(NamedTuple):
    """The time of a call."""

    wall: float
    cpu: float  # of all threads


def by_kind(seconds: Mapping[Any, list[Seconds]]) -> tuple[dict[Any, list[float]], dict[Any, list[float]]]:
    """Wall time and CPU time of the calls of each program."""
    wall, cpu = (
        {name: [getattr(s, kind) for s in of_one] for name, of_one in seconds.items()} for kind in Seconds._fields
    )
    return wall, cpu


class Process:
    """A process of `python -m benchmarks.MODULE FLAGS`, which runs one call on request (`serve`)."""

    def __init__(self, module: str, *flags: str, huge_pages: bool = False) -> None:
        command = [sys.executable, "-m", f"benchmarks.{module}", *flags]
        env = os.environ | {"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={int(huge_pages)}"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
        self._answer()  # waits for the warm-up, so that processes warm up one at a time

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def call(self) -> Seconds:
        return Seconds(*self._ask("call"))

    def peak(self) -> float:
        """Peak memory in MiB: of the device if it reports it, otherwise of the process."""
        return self._ask("peak")[0]

    def _ask(self, what: str) -> list[float]:
        print(what, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> list[float]:
        line = self._process.stdout.readline()
        if not line:
            raise subprocess.CalledProcessError(self._process.wait(), self._process.args)
        return [float(word) for word in line.split()]


def serve(call: Callable[[], None], peak: Callable[[], float | None] = lambda: None) -> None:
    """Answers the requests of a Process."""
    call()
    print(0.0, flush=True)
    for line in sys.stdin:
        if line.strip() == "peak":
            host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(peak() or host, flush=True)
        else:
            call()
            start, cpu = time.perf_counter(), time.process_time()
            call()
            print(time.perf_counter() - start, time.process_time() - cpu, flush=True)


def images_and_boxes(batch: int, quick: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[b h w 3] uint8, [b n 4] xyxy in pixels, [b n] classes from 0."""
    random = np.random.default_rng(0)
    height, width = (192, 256) if quick else (HEIGHT, WIDTH)
    images = random.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    corners = random.uniform(0, (0.6 * width, 0.6 * height), (batch, NUM_BOXES, 2))
    sizes = random.uniform(16, 0.4 * height, (batch, NUM_BOXES, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=-1).astype(np.float32)
    return images, boxes, random.integers(0, NUM_CLASSES, (batch, NUM_BOXES)).astype(np.int32)


# torchvision.


def torchvision_detector(size: int) -> Any:
    import torch
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.misc import FrozenBatchNorm2d

    torch.manual_seed(0)
    # The same as fasterrcnn_resnet50_fpn with weights.
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    detector = FasterRCNN(backbone, num_classes=NUM_CLASSES + 1, min_size=size, max_size=1333)
    for name, value in detector.named_buffers():  # otherwise random residual branches overflow float32
        if name.endswith("bn3.weight"):
            value.mul_(0.2)
    return detector


def save_weights(path: Path) -> None:
    from safetensors.torch import save_file

    state = torchvision_detector(HEIGHT).state_dict()
    save_file({name: value.contiguous().clone() for name, value in state.items()}, path)


def run_torchvision(program: Program, task: str, batch: int, weights: Path, quick: bool) -> None:
    import torch
    from safetensors.torch import load_file

    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, boxes, labels = images_and_boxes(batch, quick)
    detector = torchvision_detector(images.shape[1]).to(device)
    detector.load_state_dict(load_file(weights))
    if program.form == "channels_last":
        detector = detector.to(memory_format=torch.channels_last)
    low_precision = torch.autocast(device, torch.bfloat16, enabled=program.dtype == "bfloat16")
    if task == "training step":
        detector.train()
        trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=1e-4)

    def to_device() -> list:
        return [torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255 for image in images]

    targets = [
        {"boxes": torch.from_numpy(b).to(device), "labels": torch.from_numpy(lab + 1).long().to(device)}
        for b, lab in zip(boxes, labels, strict=True)
    ]

    def infer() -> None:
        with torch.inference_mode(), low_precision:
            found = detector(to_device())
        [value.cpu() for image in found for value in image.values()]

    def step() -> None:
        with low_precision:
            loss = sum(detector(to_device(), targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert np.isfinite(loss.item())

    def peak() -> float | None:
        return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None

    detector.train(task == "training step")
    serve(step if task == "training step" else infer, peak)


# lga_jax.


def run_lga_jax(program: Program, task: str, batch: int, weights: Path, quick: bool) -> None:
    import jax

    from configs.coco_torchvision_v1 import get_config
    from lga_jax.inference.compilation import compile_ahead
    from lga_jax.inference.step import make_predict_step
    from lga_jax.models.build import build_detector, init_variables
    from lga_jax.models.freezing import frozen_labels
    from lga_jax.structs import Batch, Targets
    from lga_jax.training.optimizer import make_optimizer
    from lga_jax.training.step import create_state, make_train_step
    from lga_jax.weights.files import read_weights
    from lga_jax.weights.load import load_pretrained

    config = get_config()
    config.model.dtype = program.dtype
    images, boxes, labels = images_and_boxes(batch, quick)
    devices = jax.local_device_count()
    split = (devices, batch // devices) if batch % devices == 0 else (1, batch)
    data = Batch(
        images=images,
        image_hw=np.full((batch, 2), images.shape[1:3], np.float32),
        scale_hw=np.ones((batch, 2), np.float32),
        targets=Targets(boxes=boxes, labels=labels, valid=np.ones(labels.shape, bool)),
        index=np.arange(batch, dtype=np.int32),
    )
    data = jax.tree.map(lambda leaf: leaf.reshape(*split, *leaf.shape[1:]), data)
    detector = build_detector(config.model, NUM_CLASSES)
    names = tuple(map(str, range(NUM_CLASSES)))
    variables, _ = load_pretrained(
        read_weights(str(weights)), init_variables(detector, 0), names, config.model.to_dict()
    )

    def peak() -> float | None:
        statistics = jax.local_devices()[0].memory_stats()
        return statistics["peak_bytes_in_use"] / 2**20 if statistics else None

    if task == "inference":
        predict = make_predict_step(detector, config.inference.to_dict())
        on_device = jax.device_put(variables)
        compile_ahead({"prediction": predict.lower(on_device, data)})
        return serve(lambda: jax.device_get(predict(on_device, data)), peak)

    optimizer, _ = make_optimizer(config.optim, batch, 1000, frozen_labels(variables["params"], detector.backbone))
    state = create_state(variables, optimizer, ema=False)
    del variables
    # Many images use a GPU fully; single images fit the caches of a CPU.
    at_once = 1 if jax.default_backend() == "cpu" else 0
    train_step = make_train_step(
        detector, optimizer, config.losses.to_dict(), ema_decay=0.0, seed=0, images_at_once=at_once
    )

    compile_ahead({"step": train_step.lower(state, data)})

    def step() -> None:
        nonlocal state
        state, metrics = train_step(state, data)
        assert np.isfinite(float(metrics["total"]))

    return serve(step, peak)


def _run_as_process() -> bool:
    """Runs one program or saves weights, if the command line asks for it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--program", nargs=4)
    parser.add_argument("--task")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--quick", action="store_true")
    args, _ = parser.parse_known_args()
    if args.program:
        program = Program(*args.program)
        run = {"lga_jax": run_lga_jax, "torchvision": run_torchvision}[program.library]
        run(program, args.task, args.batch, args.weights, args.quick)
    elif args.weights:
        save_weights(args.weights)
    return bool(args.program or args.weights)


if __name__ == "__main__":
    if not _run_as_process():
        # Imported by name, so that `rows` is the same function as in other modules.
        from benchmarks import against_torchvision

        timing.main(against_torchvision.rows, __doc__, against_torchvision.add_arguments)
