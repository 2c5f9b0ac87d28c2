import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.recipe import check, load
from lga_jax.suggest import suggest as module
from lga_jax.suggest.suggest import suggest
from tests.suggest.sets import Set


def test_a_recipe_for_a_set_is_written_and_can_be_checked(tmp_path):
    config = load("challenge")
    config.batch_size = 4
    config.data.train.num_images, config.data.eval.num_images = 12, 4
    lines = suggest(check(config), tmp_path / "mine.py")
    mine = check(load(tmp_path / "mine.py"))
    assert mine.data.train.to_dict() == config.data.train.to_dict()
    assert mine.batch_size == 4 and any(line.split() == ["batch_size", "4"] for line in lines)
    assert str(tmp_path / "mine.py") in lines[-1]


def test_data_that_training_would_refuse_write_nothing(tmp_path, monkeypatch):
    source = Set(num_images=2)
    source.records = [record._replace(crowd=np.ones(2, bool)) for record in source.records]
    monkeypatch.setattr(module, "open_source", lambda **arguments: source)
    with pytest.raises(UserError) as caught:
        suggest(load("challenge"), tmp_path / "mine.py")
    assert caught.value.subject == "data.train" and not (tmp_path / "mine.py").exists()
