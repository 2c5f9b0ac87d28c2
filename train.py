"""Trains a detector, or goes on with a run that was stopped.

    python train.py --config configs/coco.py --config.model.init_from=resnet50.npz

Several processes (one per machine) train together: each runs the same command with --coordinator_address HOST:PORT,
--num_processes N and its own --process_id, and sees the same workdir. --coordinator_address auto asks the cluster
(TPU pods, Slurm) for all three.
"""

import jax
from absl import flags
from ml_collections import config_flags

from lga_jax import errors
from lga_jax.train.checkpoint import default_workdir
from lga_jax.train.loop import train

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, such as configs/coco.py.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/RECIPE: checkpoints, metrics.")
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "host:port of process 0, or auto.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes that train together.", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", lower_bound=0)
flags.mark_flag_as_required("config")


def main() -> None:
    """Reads the flags and trains."""
    _join_processes()
    train(_CONFIG.value, _WORKDIR.value or default_workdir(config_flags.get_config_filename(flags.FLAGS["config"])))


def _join_processes() -> None:
    address, count, number = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    if address == "auto":
        jax.distributed.initialize()
    elif None not in (address, count, number) and number < count:
        jax.distributed.initialize(address, count, number)
    elif (address, count, number) != (None, None, None):
        raise errors.UserError(
            "--coordinator_address, --num_processes, --process_id: expected all three and process_id < num_processes, "
            f"found {address}, {count}, {number}; give none of them for a run of one process"
        )


if __name__ == "__main__":
    errors.run(main)
