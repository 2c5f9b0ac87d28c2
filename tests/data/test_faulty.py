"""How many faults are too many, and what is said about them."""

import dataclasses
import math

import numpy as np
import pytest
from ml_collections import ConfigDict

from lga_jax.data.faulty import ImageCount, check_data, is_beyond_chance
from lga_jax.data.source import Part, Record, UnreadableImageError, UnusableBoxes
from lga_jax.errors import UserError


@dataclasses.dataclass
class Images:
    """Images with one box each; those in `broken` cannot be read."""

    num: int = 200
    broken: tuple[int, ...] = ()
    num_boxes: int = 1
    crowd: bool = False
    unusable_boxes: tuple[UnusableBoxes, ...] = ()
    class_names: tuple[str, ...] = ("thing",)

    def __post_init__(self):
        self.read: list[int] = []
        boxes = np.array([[1, 1, 5, 5]] * self.num_boxes, np.float32).reshape(-1, 4)
        rows = np.zeros(self.num_boxes, np.int32), np.full(self.num_boxes, self.crowd)
        self.records = [Record(number, 9, 9, boxes, *rows) for number in range(self.num)]

    def image(self, index: int) -> np.ndarray:
        self.read.append(index)
        if index in self.broken:
            raise UnreadableImageError(f"set/{index}.jpg", expected="an image", found="a pointer", remedy="fetch it")
        return np.zeros((9, 9, 3), np.uint8)


def _check(source: Images, max_faulty: float = 0.1) -> None:
    check_data("data.train", source, ConfigDict(dict(max_faulty=max_faulty, num_workers=2)))


@pytest.mark.parametrize(
    ("num_faulty", "num_seen", "share", "expected"),
    [
        (3, 4, 0.1, False),
        (4, 4, 0.1, True),
        (16, 32, 0.1, True),
        (10, 32, 0.1, False),
        (22, 100, 0.1, False),
        (23, 100, 0.1, True),
        (1_000, 10_000, 0.1, False),
        (1_150, 10_000, 0.1, True),
        (1, 1_000_000, 0.0, True),
        (0, 10, 0.0, False),
        (0, 0, 0.1, False),
        (10, 10, 1.0, False),
    ],
)
def test_a_share_is_too_large_only_where_chance_is_excluded(num_faulty, num_seen, share, expected):
    assert is_beyond_chance(num_faulty, num_seen, share) == expected


def test_the_bound_is_above_the_probability_that_it_bounds():
    """The first number of 40 that is beyond chance has a probability below 0.001 at the largest share."""
    first = next(number for number in range(41) if is_beyond_chance(number, 40, 0.1))
    tail = sum(math.comb(40, k) * 0.1**k * 0.9 ** (40 - k) for k in range(first, 41))
    assert tail <= 1e-3 and not is_beyond_chance(first - 1, 40, 0.1)


def test_a_sample_over_the_whole_set_is_read_once():
    source = Images()
    _check(source)
    assert len(source.read) == len(set(source.read)) == 32 and {0, 199} <= set(source.read)
    small = Images(num=5)
    _check(small)
    assert sorted(small.read) == [0, 1, 2, 3, 4]


def test_a_set_of_files_that_were_never_downloaded_is_refused_with_counts_names_and_the_cause():
    with pytest.raises(UserError) as caught:
        _check(Images(broken=tuple(range(200))))
    error = caught.value
    assert (error.subject, error.remedy.split(" (")[0]) == ("data.train", "fetch it")
    assert error.found == "32 of 32 images read so far, 32 of them a pointer: 0.jpg, 6.jpg, 13.jpg and 29 more"


@pytest.mark.parametrize("num", [1, 2, 3])
def test_all_images_of_a_small_set_are_too_many(num):
    with pytest.raises(UserError):
        _check(Images(num=num, broken=tuple(range(num))))
    if num > 1:
        _check(Images(num=num, broken=(0,)))


def test_some_unreadable_images_and_no_limit_are_accepted():
    _check(Images(broken=(0, 6, 13)))
    everything = Images(broken=tuple(range(200)))
    _check(everything, max_faulty=1.0)
    assert everything.read == []


def test_another_error_of_an_image_is_the_error_of_the_start():
    source = Images(num=3)
    source.image = lambda index: (_ for _ in ()).throw(UserError("0.jpg", expected="9 x 9 pixels"))
    with pytest.raises(UserError) as caught:
        _check(source)
    assert caught.value.subject == "0.jpg"


def test_images_are_counted_once_and_new_errors_are_given_back():
    count = ImageCount([Part("", 0, 10)], 0.1)
    error = UnreadableImageError("4.jpg")
    assert count.add([1, 2, 4], {4: error}) == [error]
    assert count.add([4, 4], {4: UnreadableImageError("4.jpg")}) == []
    assert len(count.errors) == 1
    count.check("images")


def test_a_broken_part_below_the_share_is_refused_by_its_name():
    source = Images(num=1000, broken=tuple(range(950, 960)))
    _check(source)
    source.part_ranges = [
        Part("data part 'a'", 0, 950),
        Part("data part 'b'", 950, 960),
        Part("data part 'c'", 960, 1000),
    ]
    source.read.clear()
    with pytest.raises(UserError) as caught:
        _check(source)
    assert caught.value.subject == "data.train: data part 'b'" and caught.value.found.startswith("10 of 10 images")
    assert len(source.read) == 32 + 10 + 32


def test_the_parts_of_a_run_are_judged_one_by_one():
    count = ImageCount([Part("a", 0, 90), Part("b", 90, 100)], 0.1)
    errors = {index: UnreadableImageError(f"{index}.jpg") for index in (0, 90, 91, 92, 93)}
    count.add(range(92), {index: errors[index] for index in (0, 90, 91)})
    count.check("images")
    count.add(range(94), errors)
    with pytest.raises(UserError) as caught:
        count.check("images")
    assert caught.value.subject == "images: b" and caught.value.found.startswith("4 of 4 images")


@pytest.mark.parametrize(("count", "total", "refused"), [(4, 7, False), (1, 1, True), (7, 7, True), (300, 1000, True)])
def test_boxes_that_cannot_be_used_are_refused_from_a_share_on(count, total, refused):
    source = Images(
        unusable_boxes=(UnusableBoxes("a.json", 0, 9, ()), UnusableBoxes("b.json", count, total, ("x.jpg",)))
    )
    if not refused:
        _check(source)
        return
    with pytest.raises(UserError) as caught:
        _check(source)
    assert caught.value.subject == "data.train: b.json"
    assert f"{count} of {total:,} box" in caught.value.found and "x.jpg" in caught.value.found
    _check(source, max_faulty=1.0)


@pytest.mark.parametrize("boxes", [dict(num_boxes=0), dict(crowd=True)])
@pytest.mark.parametrize("place", ["data.train", "data.eval"])
def test_a_set_without_boxes_is_refused_before_an_image_is_read(place, boxes):
    source = Images(**boxes)
    with pytest.raises(UserError) as caught:
        check_data(place, source, ConfigDict(dict(max_faulty=1.0, num_workers=1)))
    assert caught.value.subject == place and ("score" in caught.value.expected) == (place == "data.eval")
    assert caught.value.found.startswith("none in 200 images") and source.read == []
