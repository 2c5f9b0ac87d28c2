"""Trains a detector, or resumes a run.

    python train.py --config configs/coco.py --config.model.init_from=resnet50.npz

Several machines train together with one process each: run the same command on all of them with --coordinator_address
HOST:PORT, --num_processes N, a different --process_id and the same shared workdir. --coordinator_address auto gets all
three from the cluster (TPU pods, Slurm). Process 0 listens on PORT. Each process waits --join_seconds for the others.
"""

from pathlib import Path

from absl import flags

from lga_jax.command_line import parsing
from lga_jax.errors import UserError
from lga_jax.memory import check_limits
from lga_jax.recipe import check
from lga_jax.stores.place import check_place, is_url


def main() -> None:
    """Reads the flags and trains."""
    config = parsing.define_config()
    workdir = parsing.define_path(
        "workdir", "Folder of the run; default runs/RECIPE: checkpoints, metrics.", check_place
    )
    address = flags.DEFINE_string("coordinator_address", None, "host:port of process 0, or auto.")
    count = flags.DEFINE_integer("num_processes", None, "Processes that train together.", lower_bound=1)
    number = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", lower_bound=0)
    seconds = flags.DEFINE_integer("join_seconds", 60, "Seconds until all processes have started.", lower_bound=1)
    extend = flags.DEFINE_boolean("extend", False, "With a larger num_steps: continue with a new schedule.")

    def run() -> int:
        check_limits()
        place = workdir.value or config.default_workdir
        check(config.value, new_run=not (is_url(place) or any(Path(place, "checkpoints").glob("[0-9]*"))))

        from lga_jax.training.run import train  # takes seconds; faults of the recipe are reported before

        parsing.stop_at_once()  # until the first step; then the run saves before it stops
        _join(address.value, count.value, number.value, float(seconds.value))
        stopped_by = train(config.value, place, extend=extend.value)
        return 128 + stopped_by if stopped_by else 0

    parsing.run(run, config)


def _join(address: str | None, count: int | None, process: int | None, limit: float) -> None:
    from lga_jax.processes.join import find_cluster, join_processes

    if address == "auto":
        join_processes(*find_cluster(limit), limit)
    elif None not in (address, count, process) and process < count:
        join_processes(address, count, process, limit)
    elif (address, count, process) != (None, None, None):
        raise UserError(
            "--coordinator_address, --num_processes, --process_id",
            expected="all three and process_id < num_processes",
            found=f"{address}, {count}, {process}",
            remedy="use none of them for a run with one process",
        )


if __name__ == "__main__":
    main()
