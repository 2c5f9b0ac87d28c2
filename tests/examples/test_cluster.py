"""The files of examples/cluster, as far as they can be checked without a cluster."""

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lga_jax.commands import train
from lga_jax.processes import join
from lga_jax.processes.join import find_cluster
from lga_jax.recipe import load
from lga_jax.stores.place import check_place

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "cluster"


def program(path, text):
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\n{text}")
    path.chmod(0o755)


def run(command, path, **env):
    """The output of a shell command with `path` before all other folders of programs."""
    env = os.environ | {"PATH": f"{path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)} | env
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def flags_of(arguments):
    """The flags of train.py with their values. Its recipe and its workdir must be sound."""
    assert arguments[0] == "train.py"
    flags = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    load(flags["--config"])
    check_place(flags["--workdir"])
    return flags


def joined_with(flags, monkeypatch):
    """What the command train would join: (address, count, process)."""
    taken = []
    monkeypatch.setattr(join, "join_processes", lambda *numbers: taken.extend(numbers[:3]))
    count, process = (flags.get(name) for name in ("--num_processes", "--process_id"))
    train._join(flags["--coordinator_address"], count and int(count), process and int(process), 300.0)
    return tuple(taken)


def test_a_tpu_slice(tmp_path):
    program(tmp_path / "gcloud", "print(json.dumps(sys.argv[1:]))")
    command = ["sh", str(FOLDER / "tpu_pod.sh"), "--config.num_steps=10"]
    given = json.loads(run(command, tmp_path, TPU="slice", ZONE="zone", WORKDIR="gs://bucket/runs/coco"))
    assert given[:6] == ["compute", "tpus", "tpu-vm", "ssh", "slice", "--zone=zone"]
    assert "--worker=all" in given
    words = shlex.split(given[-1].removeprefix("--command="))
    assert words[:4] == ["cd", "lga_jax", "&&", ".venv/bin/python"]
    assert words[-1] == "--config.num_steps=10"
    assert flags_of(words[4:-1])["--coordinator_address"] == "auto"


def test_a_tpu_slice_without_a_name_is_refused():
    command = ["sh", str(FOLDER / "tpu_pod.sh")]
    assert subprocess.run(command, capture_output=True, check=False, env={"PATH": os.environ["PATH"]}).returncode == 2


def test_a_host_of_a_tpu_slice_finds_the_first_one(monkeypatch):
    """The names that hosts of a slice in Kubernetes have; on Compute Engine a server in the network tells them."""
    from jax._src.clusters import cloud_tpu_cluster

    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost,host-1,host-2,host-3")
    monkeypatch.setenv("TPU_WORKER_ID", "2")
    for name in ("MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID"):
        monkeypatch.setenv(
            name, {"MEGASCALE_COORDINATOR_ADDRESS": "localhost"}.get(name, "1" if "NUM" in name else "0")
        )
    address, count, process = find_cluster()
    assert (address.split(":")[0], count, process) == ("localhost", 4, 2)


SRUN = """
import subprocess
at = sys.argv.index("train.py") - 1
tasks = [
    subprocess.Popen(sys.argv[at:], env=os.environ | {
        "SLURM_JOB_ID": os.environ["JOB"], "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_STEP_NUM_NODES": "1"})
    for task in range(2)
]
sys.exit(max(task.wait() for task in tasks))
"""

JOINS = """
flags = dict(zip(sys.argv[2::2], sys.argv[3::2]))
from lga_jax.commands import train
train._join(flags["--coordinator_address"], None, None, 300.0)
import jax
from jax._src.xla_bridge import CUDA_VISIBLE_DEVICES
from jax.experimental import multihost_utils
import numpy as np
total = int(multihost_utils.process_allgather(np.array(jax.process_index() + 1)).sum())
found = [sys.argv[1:], jax.process_count(), total, CUDA_VISIBLE_DEVICES.value]
os.write(1, f"{json.dumps(found)}\\n".encode())  # at once: both tasks write to one pipe
"""


def test_slurm_starts_processes_that_find_each_other(tmp_path):
    """srun is a script that starts two tasks with Slurm's variables, on this machine."""
    program(tmp_path / "srun", SRUN)
    program(tmp_path / "python", JOINS)
    with socket.socket() as free:  # JAX takes the port from the number of the job
        free.bind(("127.0.0.1", 65535 - 2**12 + 1 + os.getpid() % 2**12))
        job = free.getsockname()[1] - (65535 - 2**12 + 1)
    command = ["bash", str(FOLDER / "slurm.sbatch")]
    said = run(command, tmp_path, PYTHON=str(tmp_path / "python"), JOB=str(job), JAX_PLATFORMS="cpu")
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("[[")]
    assert sorted(line[3] for line in lines) == ["0", "1"]  # each task has a GPU of its own
    for arguments, count, total, _ in lines:
        flags_of(arguments)
        assert (count, total) == (2, 3)


def test_slurm_gives_each_gpu_a_task():
    """JAX lets a task use the GPU with the number of the task on its node, so each task must see all of them."""
    settings = dict(
        line.removeprefix("#SBATCH --").split("=", 1)
        for line in (FOLDER / "slurm.sbatch").read_text().splitlines()
        if line.startswith("#SBATCH") and "=" in line
    )
    assert settings["ntasks-per-node"] == settings["gpus-per-node"]
    assert "gpus-per-task" not in settings
    assert settings["signal"].startswith("TERM@")  # with B: it would go to the shell alone


def test_kubernetes(tmp_path, monkeypatch):
    content = yaml.safe_load((FOLDER / "jobset.yaml").read_text())
    (replicated,) = content["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    program(tmp_path / "python", "print(json.dumps(sys.argv[1:]))")
    command = [*container["command"], *container["args"]]
    flags = flags_of(json.loads(run(command, tmp_path, JOB_COMPLETION_INDEX="3")))
    name = content["metadata"]["name"]
    first = f"{name}-{replicated['name']}-0-0.{name}"  # jobset-job-replica-pod.subdomain
    port = container["ports"][0]["containerPort"]
    assert joined_with(flags, monkeypatch) == (f"{first}:{port}", 4, 3)
    assert job["completions"] == job["parallelism"] == 4
    assert job["completionMode"] == "Indexed"


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_every_file_says_how_to_start_it(path):
    head = "\n".join(path.read_text().splitlines()[:8])
    assert any(word in head for word in ("sh examples/cluster/", "sbatch ", "kubectl apply"))
