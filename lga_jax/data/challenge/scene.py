"""Places the vehicles of a challenge image and chooses the effects of its challenge; no drawing."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lga_jax.data.challenge.random_ints import RandomInts
from lga_jax.data.challenge.vehicles import CLASS_NAMES, Appearance, Shape, vehicle_shape

PLAIN = "plain"
MAX_OVERLAP = 8  # percent of the smaller of two boxes
_TRIES = 24  # tried places before a vehicle is made smaller
# One random stream per purpose, so that a scene has the same layout under every challenge.
_MIXTURE, _LAYOUT, PAINT, _FIRST_VEHICLE = range(4)


class Effects(NamedTuple):
    """The effects of a challenge at one severity; the defaults give a plain image."""

    appearance: Appearance = Appearance()
    far: tuple[int, int] = (200, 560)  # longer side of a vehicle, thousandths of the image's shorter side
    near: tuple[int, int] | None = None  # the same for images of one close vehicle; None: no such images
    smoke: int = 0  # percent of a vehicle's box under smoke
    flames: int = 0  # flames on a vehicle
    blur: int = 0  # length of the blur, percent of the vehicle's longer side
    camouflage: int = 0  # share of the background texture in the paint, of 256


_PLAIN = Effects()
_EFFECTS: dict[str, tuple[Effects, Effects, Effects]] = {
    "complex_environment": (
        Effects(smoke=30, flames=1),
        Effects(smoke=60, flames=3),
        Effects(smoke=85, flames=5),
    ),
    "intra_class_variance": (
        Effects(appearance=Appearance(variance=1)),
        Effects(appearance=Appearance(variance=2)),
        Effects(appearance=Appearance(variance=3)),
    ),
    "inter_class_similarity": (
        Effects(appearance=Appearance(part_percent=85, part_grey=80, stubs=1)),
        Effects(appearance=Appearance(part_percent=70, part_grey=130, stubs=2)),
        Effects(appearance=Appearance(part_percent=50, part_grey=200, stubs=3)),
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
    x: int  # half-pixels: upper left corner of the shape
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

    @property
    def outline(self) -> list[Int[np.ndarray, "_ 2"]]:
        """The corners of its polygons in half-pixels, which they include."""
        return np.split(self.shape.points + (self.x, self.y), self.shape.ends[:-1])


class Scene(NamedTuple):
    """The content of one image. Later vehicles cover earlier ones."""

    challenge: str
    severity: int  # 0 for plain
    effects: Effects
    vehicles: list[Vehicle]


class Mixture(NamedTuple):
    """The settings of a challenge set. A challenge named twice is drawn twice as often."""

    image_hw: tuple[int, int]
    challenges: tuple[str, ...]
    severities: tuple[int, ...]
    min_objects: int
    max_objects: int


def make_scene(seed: int, index: int, mixture: Mixture) -> Scene:
    """The scene of image `index`: a pure function of its arguments."""
    rng = RandomInts(seed, index, _MIXTURE)
    challenge, severity = rng.choice(mixture.challenges), rng.choice(mixture.severities)
    if challenge == PLAIN:
        return Scene(PLAIN, 0, _PLAIN, _place_all(seed, index, mixture, _PLAIN))
    effects = _EFFECTS[challenge][severity - 1]
    return Scene(challenge, severity, effects, _place_all(seed, index, mixture, effects))


def boxes_in_pixels(boxes: Sequence[tuple[int, int, int, int]]) -> Float[np.ndarray, "n 4"]:
    """Converts boxes from half-pixels to pixels."""
    return np.array(boxes, np.float32).reshape(-1, 4) / np.float32(2)


def _place_all(seed: int, index: int, mixture: Mixture, effects: Effects) -> list[Vehicle]:
    rng = RandomInts(seed, index, _LAYOUT)
    count, near = rng.between(mixture.min_objects, mixture.max_objects), rng.chance(33)
    span = effects.far
    if effects.near and near:
        count, span = 1, effects.near
    elif count > 2:  # three or more vehicles of full size do not fit
        span = (span[0], max(span[0], span[1] * (10 - min(count, 6)) // 8))
    smaller_side = 2 * min(mixture.image_hw)
    vehicles: list[Vehicle] = []
    for i in range(count):
        rng = RandomInts(seed, index, _FIRST_VEHICLE + 2 * i)
        label, size = rng.between(0, len(CLASS_NAMES) - 1), smaller_side * rng.between(*span) // 1000
        shape = vehicle_shape(
            RandomInts(seed, index, _FIRST_VEHICLE + 2 * i + 1), label, max(8, size), effects.appearance
        )
        vehicle = _place(rng, mixture.image_hw, shape, vehicles)
        vehicles += [vehicle] if vehicle else []
    return vehicles


def _place(rng: RandomInts, image_hw: tuple[int, int], shape: Shape, others: list[Vehicle]) -> Vehicle | None:
    """Places a vehicle, smaller if necessary; None if the image is too full."""
    taken = [(other.box, other.part_box) for other in others]
    for _ in range(3):
        wide, high = (shape.points.max(0) + 1).tolist()
        for _ in range(_TRIES):
            right, down = rng.between(0, 999), rng.between(0, 999)
            x, y = (2 * image_hw[1] - wide + 1) * right // 1000, (2 * image_hw[0] - high + 1) * down // 1000
            vehicle = Vehicle(shape, x, y)
            if not taken or _is_free(vehicle, taken):
                return vehicle
        shape = shape._replace(points=shape.points * 3 // 4)
    return None


def _is_free(vehicle: Vehicle, taken: list[tuple[tuple[int, int, int, int], tuple[int, int, int, int]]]) -> bool:
    """True if the vehicle overlaps placed vehicles by at most MAX_OVERLAP, and their parts not at all."""
    box = vehicle.box
    area = (box[2] - box[0]) * (box[3] - box[1])
    for other, part in taken:
        smaller = min(area, (other[2] - other[0]) * (other[3] - other[1]))
        if _shared(box, part) or 100 * _shared(box, other) > MAX_OVERLAP * smaller:
            return False
    return True


def _shared(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
