"""What the compilers of GPUs and TPUs make of the training step and of prediction, without such a device.

    make accelerators
    python -m benchmarks.accelerators --targets h100 --programs training:16,training:2:8,prediction:8

A program is NAME:IMAGES or NAME:IMAGES:DEVICES, with the images of each device. Names: training, prediction, and the
parts roi_align, proposals and matching. For a TPU compile the parts: its compiler had not ended
the whole step after 25 minutes.
Every number is computed from the compiled program; nothing is measured.
"""

import argparse
import time

from benchmarks import timing
from benchmarks.accelerators import parts, programs, report
from benchmarks.accelerators.targets import TARGETS, is_installed, lower_for
from lga_jax.recipe import check, load, override

PROGRAMS = {
    "training": programs.training,
    "prediction": programs.prediction,
    "roi_align": parts.roi_align,
    "proposals": parts.proposals,
    "matching": parts.matching,
}
DEFAULTS = {
    "h100": "training:16,training:2:8,prediction:8",
    "v5e": "roi_align:2,proposals:2,matching:2,prediction:1",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/coco.py", help="Recipe; --config.KEY=VALUE changes a value of it.")
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"Some of {', '.join(TARGETS)}.")
    parser.add_argument("--programs", help=f"Some of {', '.join(PROGRAMS)}; default: what suits the target.")
    parser.add_argument("--image_hw", default="800,1344", help="Padded height,width in pixels.")
    parser.add_argument("--save", help="Folder for the texts of the compiled programs.")
    args, changes = parser.parse_known_args()
    config = load(args.config)
    override(config, dict(change.removeprefix("--config.").split("=", 1) for change in changes))
    config = check(config)
    for target in args.targets.split(","):
        if not is_installed(TARGETS[target]):
            parser.error(f"--targets {target}: {TARGETS[target].plugin} is not installed; run `make accelerators`")
        for program in (args.programs or DEFAULTS[target]).split(","):
            rows = measure(target, program, config, tuple(map(int, args.image_hw.split(","))), args.save)
            print(timing.markdown(rows), end="\n\n", flush=True)


def measure(target: str, program: str, config: object, image_hw: tuple[int, int], save: str | None) -> list[dict]:
    """The tables of one program."""
    name, images, *devices = program.split(":")
    num_devices = int(devices[0]) if devices else 1
    function, arguments = PROGRAMS[name](config, int(images), image_hw)
    start = time.perf_counter()
    lowered = lower_for(TARGETS[target], function, arguments, num_devices=num_devices, donate=name == "training")
    compiled = lowered.compile()
    taken = time.perf_counter() - start
    if save:
        with open(f"{save}/{target}_{program.replace(':', '_')}.hlo", "w") as file:
            file.write(compiled.as_text())
    title = f"{target}: {name}, {images} images" + (f" on each of {num_devices} devices" if devices else "")
    rows = [*report.tables(title, lowered, compiled, TARGETS[target])]
    return [*rows, {"table": f"{title}: contents", "what": "seconds to compile", "found": f"{taken:.0f}"}]


if __name__ == "__main__":
    main()
