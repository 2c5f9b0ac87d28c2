"""The score threshold with the best F1, from the metrics.json that an evaluation of the checkpoint has written."""

import json
from pathlib import Path

from lga_jax.errors import UserError
from lga_jax.stores.copies import files_to_read

AUTO = "auto"


def evaluation_folder(workdir: str, step: int) -> Path:
    """Where an evaluation of a run writes its files, and where predictions look for its best threshold."""
    return Path(workdir, f"eval_{step}")


def read_best_threshold(workdir: str, step: int, checkpoint: str) -> float:
    """The best threshold of all classes together.

    Args:
        workdir: the folder of the run.
        step: step of the checkpoint.
        checkpoint: the digest of its parameters; an evaluation of other parameters is refused.

    Raises:
        UserError: there is no evaluation, it is of other parameters, or none of its detections was correct.
    """
    path = evaluation_folder(workdir, step) / "metrics.json"
    try:
        with files_to_read(workdir, f"eval_{step}/metrics.json") as folder:
            metrics = json.loads((evaluation_folder(folder, step) / "metrics.json").read_bytes())
        threshold = metrics["analysis"]["best_threshold"]["threshold"]
        evaluated = metrics["checkpoint"]
    except FileNotFoundError:
        raise _refused(f"no {path}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(f"{path}, which is damaged or of an earlier version") from error
    if evaluated != checkpoint:
        raise _refused(f"{path}, an evaluation of other parameters")
    if not isinstance(threshold, float):
        raise UserError(
            f"score_threshold={AUTO}",
            expected="an evaluation with correct detections",
            found=f"none in {path}",
            remedy="train longer, or give a number",
        )
    return threshold


def _refused(found: str) -> UserError:
    return UserError(
        f"score_threshold={AUTO}",
        expected="an evaluation of this checkpoint in its workdir",
        found=found,
        remedy="run eval.py with this --workdir and --step and without --output, or give a number",
    )
