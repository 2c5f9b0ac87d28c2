"""Losses, the gradient of every parameter and running statistics, on the same anchors and RoIs."""

import jax
import pytest
from flax.traverse_util import flatten_dict

from tests.parity.detectors import pair
from tests.parity.reference import array, torch
from tests.parity.training import LOSSES, examples, our_answer, record_gradients, round_off_relu, small, their_losses


def their_statistics(model, before):
    """Watches batch norms: biased(after) turns new running variances into those that the biased variance gives."""
    counts = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):

            def count(module, inputs, name=name):
                counts[f"{name}.running_var"] = inputs[0].numel() / inputs[0].shape[1]

            module.register_forward_pre_hook(count)

    def biased(after):
        new = dict(after)
        for name, n in counts.items():
            kept = 0.9 * before[name]
            new[name] = kept + (after[name] - kept) * (n - 1) / n
        return new

    return biased


@pytest.mark.parametrize(("version", "depth", "rounded"), [(1, 18, False), (2, 18, True), (1, 50, True)])
def test_losses_and_gradients(record, monkeypatch, version, depth, rounded):
    network = small(pair(version, depth))
    part = f"training, version {version}, ResNet-{depth}"
    if rounded:
        round_off_relu(monkeypatch)
    given = examples([(128, 160), (117, 150)])
    answer = our_answer(network, given, jax.random.split(jax.random.key(0), 2))
    # Ours is divided by the number of slots, theirs by the number of samples: equal where every slot is filled.
    assert answer.outputs.rpn.samples.valid.all() and answer.outputs.stages[0].rois.valid.all()

    before = {name: array(value).copy() for name, value in network.theirs.state_dict().items()}
    network.theirs.train().zero_grad()
    biased = their_statistics(network.theirs, before)
    losses, distances = their_losses(network.theirs, given, answer.outputs.rpn.samples, answer.outputs.stages[0].rois)
    record(part, "sampled RoIs among torchvision's proposals", distances.max(), 0.01, len(distances), "px")
    for theirs, ours in LOSSES.items():
        record.near(part, "each of the four losses", answer.losses[ours], losses[theirs].item())

    moved, ours, theirs = record_gradients(record, part, network, losses, answer, rounded)
    for name in set(ours) - set(moved):
        record.same(part, f"gradients of {len(ours) - len(moved)} frozen parameters are zero", ours[name], theirs[name])

    if version == 2:
        after = {name: array(value) for name, value in network.theirs.state_dict().items()}
        theirs = flatten_dict(network.in_our_layout(biased(after))["batch_stats"], sep="/")
        for name, ours in flatten_dict(answer.batch_stats, sep="/").items():
            what = "mean" if name.endswith("mean") else "variance, from the biased one"
            record.near(part, f"running {what}", ours, theirs[name])
    network.theirs.load_state_dict({name: torch.tensor(value) for name, value in before.items()})
