"""A few mutated files of each kind; `python -m tests.mutations KIND --count 2000` tries more."""

import pytest

from tests.mutations import KINDS, images, manifest, mutated, mutated_json, outcome, weight_files


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_refused_in_one_line(kind):
    assert {outcome(kind, seed) for seed in range(60)} == {"read", "refused"}


def test_a_number_gives_the_same_mutation():
    data = weight_files()[".pkl"]
    assert mutated(data, 3) == mutated(data, 3) != data
    assert len({mutated(data, seed) for seed in range(50)}) > 45
    assert str(mutated_json(manifest(), 5)) == str(mutated_json(manifest(), 5)) != str(manifest())


def test_the_files_are_sound_before_they_are_mutated(monkeypatch):
    monkeypatch.setattr("tests.mutations.mutated", lambda data, seed: data)
    monkeypatch.setattr("tests.mutations.mutated_json", lambda content, seed: content)
    for kind, count in (("weights", len(weight_files())), ("images", len(images())), ("manifests", 1)):
        assert {outcome(kind, seed) for seed in range(count)} == {"read"}
