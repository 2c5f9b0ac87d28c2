"""The parts of the harness: what each tries, and how often."""

from typing import NamedTuple


class Goal(NamedTuple):
    """`about`: the first column of the table in docs/reliability.md. `good`: what a trial without a fault is."""

    about: str
    trials: int
    good: str


PARTS = {
    "kill": Goal(
        "`kill -9` of a run of the smallest detector: start-up, compiling, step, save, deletion, evaluation, report",
        40,
        "the same command ends with the same checkpoints, metrics, scores and report",
    ),
    "kill-stub": Goal(
        "`kill -9` of a run with a stub for the detector: start-up, compiling, step, save, deletion",
        130,
        "the same command ends with the same checkpoints, metrics and scores",
    ),
    "kill-two": Goal(
        "`kill -9` of one of two processes, with a stub",
        30,
        "the other ends within 60 s with one line (`--join_seconds 30`); the same commands end with the same "
        "checkpoints, metrics and scores",
    ),
    "signals": Goal(
        "SIGTERM or SIGINT at a random moment, imports and compiling included",
        100,
        "status 143 or 130 within 30 s (3 s before the first step), no traceback; the same end as above",
    ),
    "damage": Goal(
        "bytes of a file of a checkpoint flipped, replaced, zeroed, cut off, or the file deleted",
        2000,
        "training takes the older step, the other commands refuse in one line; or the saved values are read",
    ),
    "disk": Goal(
        "disk full, out of inodes, EIO, EDQUOT, EROFS, a limit on file sizes, in training, evaluation, prediction and "
        "export; workdir deleted, moved, in use",
        60,
        "one line, status 2; the same command then ends with the same checkpoints, metrics, scores, report and files",
    ),
    "inputs": Goal(
        "annotations, images, weight files, recipes and manifests with changed bytes or values",
        20_000,
        "read, or refused in one line, in less than 10 s; no other values where the file has a checksum",
    ),
    "endurance": Goal(
        "20,000 steps and 20 evaluations of the smallest detector",
        1,
        "memory grows by less than 2 %; no more open files and threads (those of TensorStore's pool aside)",
    ),
}
