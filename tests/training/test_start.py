"""What is checked, agreed on and given back before the first step."""

import runpy

import jax
import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.models.build import build_detector
from lga_jax.training import start
from lga_jax.training.run import open_run
from tests.training.stubs import install, stub_config, tiny_config


def _agree(monkeypatch, *whats):
    """`check_processes_agree` as process 0 of several sees it, each with its own."""
    digests = []
    monkeypatch.setattr(jax, "process_count", lambda: len(whats))
    with monkeypatch.context() as patch:
        patch.setattr(start.multihost_utils, "process_allgather", lambda mine: digests.append(mine) or mine[None])
        for what in whats:
            start.check_processes_agree(what)
    monkeypatch.setattr(start.multihost_utils, "process_allgather", lambda mine: np.stack(digests))
    start.check_processes_agree(whats[0])


def test_processes_with_one_recipe_agree(monkeypatch):
    _agree(monkeypatch, [{"a": 1, "b": 2}, 3], [{"b": 2, "a": 1}, 3])


def test_processes_that_would_train_different_things_are_named(monkeypatch):
    with pytest.raises(UserError) as caught:
        _agree(monkeypatch, [{"seed": 1}, 3], [{"seed": 1}, 4], [{"seed": 1}, 3], [{"seed": 2}, 3])
    assert caught.value.subject == "processes 1, 3"


def test_one_process_asks_nobody(monkeypatch):
    monkeypatch.setattr(start.multihost_utils, "process_allgather", lambda _: pytest.fail("asked"))
    start.check_processes_agree([1])


class Given:
    """A source of the caller, of some images of the challenge set."""

    def __init__(self, num_images):
        whole = start.open_source(**stub_config().data.train)
        self.class_names, self.records, self.image = whole.class_names, whole.records[:num_images], whole.image


@pytest.mark.parametrize(("num_images", "found"), [(3, "4"), (1, "4")])
def test_a_batch_larger_than_the_data_is_refused_before_anything_is_made(tmp_path, monkeypatch, num_images, found):
    install(monkeypatch)
    with pytest.raises(UserError) as caught, open_run(stub_config(), tmp_path / "run", source=Given(num_images)):
        pass
    assert (caught.value.subject, caught.value.found) == ("batch_size", found)
    assert caught.value.expected.startswith(f"at most the {num_images} image")
    assert not (tmp_path / "run").exists()


def test_a_batch_as_large_as_the_data_is_accepted():
    start.open_sources(stub_config(), Given(4), Given(1))


BACKBONE = """
import flax.linen as nn

class Coarse(nn.Module):
    frozen_stages: int = 0
    strides = (8, 16, 32)

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(8, (3, 3), strides=4, name="stem")(x)
        features = []
        for stage in range(1, 4):
            x = nn.relu(nn.Conv(8, (3, 3), strides=2, name=f"stage{stage}")(x))
            features.append(x)
        return features

    @staticmethod
    def part_of(path):
        return 0 if path[0] == "stem" else int(path[0].removeprefix("stage"))
"""


def test_a_backbone_from_a_file_with_other_strides_starts_a_run(tmp_path, monkeypatch):
    (tmp_path / "coarse.py").write_text(BACKBONE)
    backbone = runpy.run_path(str(tmp_path / "coarse.py"))["Coarse"]()
    config = tiny_config()
    source = start.open_source(**config.data.train)
    with pytest.raises(UserError) as caught:
        build_detector(config.model, len(source.class_names), backbone=backbone)
    assert caught.value.subject == "model.anchors.sizes" and caught.value.found == "5"
    config.model.anchors.sizes = (16, 32, 48, 64)  # strides 8, 16, 32, 64
    detector = build_detector(config.model, len(source.class_names), backbone=backbone)
    traced = {}
    monkeypatch.setattr(start, "compile_ahead", lambda programs: traced.update(programs) or {})
    with open_run(config, tmp_path / "run", detector=detector) as run:
        assert run.state.params["backbone"]["stage3"]["kernel"].shape == (3, 3, 8, 8)
    assert len(traced) == 2
