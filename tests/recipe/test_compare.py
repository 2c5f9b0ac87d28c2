from ml_collections import ConfigDict

from lga_jax.recipe import differences, flatten


def test_flat_keys_and_values():
    config = ConfigDict(dict(seed=0, optim=dict(lr=0.1, milestones=(1, 2))))
    assert flatten(config) == {"seed": 0, "optim.lr": 0.1, "optim.milestones": [1, 2]}


def test_differences_name_every_key_with_both_values():
    one, other = dict(a=1, b=dict(c=2, d=3)), dict(a=1, b=dict(c=5), e=6)
    assert differences(one, other) == {"b.c": (2, 5), "b.d": (3, None), "e": (None, 6)}
    assert differences(one, one) == {}
