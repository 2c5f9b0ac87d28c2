"""Where the vehicles of a challenge image stand and what its challenge does to them; nothing is drawn here."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lga_jax.data.challenge.random_ints import Dice
from lga_jax.data.challenge.vehicles import CLASS_NAMES, Look, Shape, vehicle_shape

PLAIN = "plain"
MAX_OVERLAP = 8  # percent of the smaller of two boxes
_TRIES = 24  # places tried for a vehicle before it is made smaller
# One stream of random numbers for each purpose: a scene keeps its layout whichever challenge is laid over it.
_MIXTURE, _LAYOUT, PAINT, _FIRST_VEHICLE = range(4)


class Effects(NamedTuple):
    """What a challenge does at one severity; the defaults leave an image plain."""

    look: Look = Look()
    far: tuple[int, int] = (200, 560)  # longer side of a vehicle, thousandths of the image's shorter side
    near: tuple[int, int] | None = None  # the same for an image with one close vehicle; None: no such images
    smoke: int = 0  # percent of a vehicle's box under smoke
    flames: int = 0  # tongues of flame on a vehicle
    blur: int = 0  # length of the smear, percent of the vehicle's longer side
    camouflage: int = 0  # of 256: how much of the paint is the texture of the ground around


_PLAIN = Effects()
_EFFECTS: dict[str, tuple[Effects, Effects, Effects]] = {
    "complex_environment": (
        Effects(smoke=30, flames=1),
        Effects(smoke=60, flames=3),
        Effects(smoke=85, flames=5),
    ),
    "intra_class_variance": (
        Effects(look=Look(variance=1)),
        Effects(look=Look(variance=2)),
        Effects(look=Look(variance=3)),
    ),
    "inter_class_similarity": (
        Effects(look=Look(part_percent=85, part_grey=80, stubs=1)),
        Effects(look=Look(part_percent=70, part_grey=130, stubs=2)),
        Effects(look=Look(part_percent=50, part_grey=200, stubs=3)),
    ),
    "scale": (
        Effects(far=(150, 210), near=(560, 640)),
        Effects(far=(105, 150), near=(640, 760)),
        Effects(far=(60, 95), near=(760, 900)),
    ),
    "motion_blur": (Effects(blur=12), Effects(blur=28), Effects(blur=60)),
    "camouflage": (Effects(camouflage=110), Effects(camouflage=190), Effects(camouflage=228)),
}
CHALLENGES = (PLAIN, *_EFFECTS)


class Vehicle(NamedTuple):
    """A shape and its place in the image."""

    shape: Shape
    x: int  # half-pixels: where the shape's extent begins
    y: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Extent in half-pixels, xyxy."""
        width, height = (self.shape.points.max(0) + 1).tolist()
        return self.x, self.y, self.x + width, self.y + height

    @property
    def part_box(self) -> tuple[int, int, int, int]:
        points = self.shape.points[self.shape.of_part]
        (left, top), (right, bottom) = points.min(0).tolist(), (points.max(0) + 1).tolist()
        return self.x + left, self.y + top, self.x + right, self.y + bottom


class Scene(NamedTuple):
    """One image before it is drawn. Later vehicles stand in front of earlier ones."""

    challenge: str
    severity: int  # 0 for plain
    effects: Effects
    vehicles: list[Vehicle]


class Mixture(NamedTuple):
    """Which images a set holds. A challenge named twice is drawn twice as often."""

    image_hw: tuple[int, int]
    challenges: tuple[str, ...]
    severities: tuple[int, ...]
    min_objects: int
    max_objects: int


def make_scene(seed: int, index: int, mixture: Mixture) -> Scene:
    """The scene of image `index`: a pure function of its arguments."""
    dice = Dice(seed, index, _MIXTURE)
    challenge, severity = dice.choice(mixture.challenges), dice.choice(mixture.severities)
    if challenge == PLAIN:
        return Scene(PLAIN, 0, _PLAIN, _place_all(seed, index, mixture, _PLAIN))
    effects = _EFFECTS[challenge][severity - 1]
    return Scene(challenge, severity, effects, _place_all(seed, index, mixture, effects))


def boxes_in_pixels(boxes: Sequence[tuple[int, int, int, int]]) -> Float[np.ndarray, "n 4"]:
    """From half-pixels, as the geometry counts, to pixels."""
    return np.array(boxes, np.float32).reshape(-1, 4) / np.float32(2)


def _place_all(seed: int, index: int, mixture: Mixture, effects: Effects) -> list[Vehicle]:
    dice = Dice(seed, index, _LAYOUT)
    count, near = dice.between(mixture.min_objects, mixture.max_objects), dice.chance(33)
    span = effects.far
    if effects.near and near:
        count, span = 1, effects.near
    elif count > 2:  # three or more at full size do not fit
        span = (span[0], max(span[0], span[1] * (10 - min(count, 6)) // 8))
    smaller_side = 2 * min(mixture.image_hw)
    vehicles: list[Vehicle] = []
    for i in range(count):
        dice = Dice(seed, index, _FIRST_VEHICLE + 2 * i)
        label, size = dice.between(0, len(CLASS_NAMES) - 1), smaller_side * dice.between(*span) // 1000
        shape = vehicle_shape(Dice(seed, index, _FIRST_VEHICLE + 2 * i + 1), label, max(8, size), effects.look)
        vehicle = _place(dice, mixture.image_hw, shape, vehicles)
        vehicles += [vehicle] if vehicle else []
    return vehicles


def _place(dice: Dice, image_hw: tuple[int, int], shape: Shape, others: list[Vehicle]) -> Vehicle | None:
    """The vehicle at a free place, smaller if need be; None where the image is too full."""
    taken = [(other.box, other.part_box) for other in others]
    for _ in range(3):
        wide, high = (shape.points.max(0) + 1).tolist()
        for _ in range(_TRIES):
            right, down = dice.between(0, 999), dice.between(0, 999)
            x, y = (2 * image_hw[1] - wide + 1) * right // 1000, (2 * image_hw[0] - high + 1) * down // 1000
            vehicle = Vehicle(shape, x, y)
            if not taken or _is_free(vehicle, taken):
                return vehicle
        shape = shape._replace(points=shape.points * 3 // 4)
    return None


def _is_free(vehicle: Vehicle, taken: list[tuple[tuple[int, int, int, int], tuple[int, int, int, int]]]) -> bool:
    """Little overlap with the vehicles that stand already, and none with their parts."""
    box = vehicle.box
    area = (box[2] - box[0]) * (box[3] - box[1])
    for other, part in taken:
        smaller = min(area, (other[2] - other[0]) * (other[3] - other[1]))
        if _shared(box, part) or 100 * _shared(box, other) > MAX_OVERLAP * smaller:
            return False
    return True


def _shared(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
