"""`lga_jax weights`: the list, and the commands of one detector."""

from lga_jax.commands.weights import weights
from lga_jax.weights.zoo import DETECTORS
from tests.commands.calling import run_command


def test_the_list_and_one_entry():
    listed = run_command(weights)
    assert listed.status == 0
    assert all(name in listed.stdout for name in DETECTORS)
    shown = run_command(weights, "torchvision-v2")
    entry = DETECTORS["torchvision-v2"]
    assert entry.address in shown.stdout and "lga_jax import-weights --config coco_torchvision_v2" in shown.stdout
    assert run_command(weights, "yolo").status == 2
