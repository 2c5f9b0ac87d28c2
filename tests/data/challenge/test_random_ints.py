"""Whole random numbers that are the same everywhere."""

import numpy as np

from lga_jax.data.challenge.random_ints import RandomInts


def test_numbers_are_the_raw_bits_of_philox():
    rng = RandomInts(1, 2, 3)
    assert [rng.between(-5, 5) for _ in range(8)] == [-3, 4, -4, -5, -3, 3, 2, 2]
    assert RandomInts(1, 2, 4).octets(5).tolist() == [222, 152, 241, 130, 2]
    assert {rng.between(3, 5) for _ in range(100)} == {3, 4, 5}
    assert not any(rng.chance(0) for _ in range(50))
    assert all(rng.chance(100) for _ in range(50))


def test_every_number_of_a_range_is_drawn_equally_often():
    rng = RandomInts(0, 0, 0)
    counts = np.bincount([rng.between(2, 6) for _ in range(5000)])
    assert counts[:2].sum() == 0 and len(counts) == 7
    np.testing.assert_allclose(counts[2:], 1000, atol=120)
    assert [rng.between(4, 4) for _ in range(3)] == [4, 4, 4]


def test_a_chance_is_in_percent_and_a_choice_among_all():
    rng = RandomInts(0, 0, 0)
    assert abs(sum(rng.chance(30) for _ in range(5000)) - 1500) < 130
    assert {rng.choice("abc") for _ in range(100)} == {"a", "b", "c"}


def test_seeds_images_and_streams_are_independent():
    def draws(*place: int) -> tuple[int, ...]:
        rng = RandomInts(*place)
        return tuple(rng.between(0, 10**6) for _ in range(200))

    runs = [draws(*place) for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert draws(0, 0, 0) == runs[0]
    assert len({number for run in runs for number in run}) > 4 * 200 - 5  # some of a million meet by chance


def test_octets_are_as_many_as_asked():
    assert [len(RandomInts(0, 0, 0).octets(count)) for count in (0, 1, 8, 9)] == [0, 1, 8, 9]
    octets = RandomInts(0, 0, 0).octets(100_000)
    np.testing.assert_allclose(np.bincount(octets, minlength=256), 100_000 / 256, rtol=0.25)
