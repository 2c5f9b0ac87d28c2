"""The vehicles of the challenge set as polygons: one kind of chassis, and eight parts that decide the class.

All numbers are integers. Blueprint coordinates: x forwards, y up from the ground, a chassis about 1000 long.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from lga_jax.data.challenge.random_ints import RandomInts

CLASS_NAMES = (
    "gun_barrel",
    "excavator_bucket",
    "ladder",
    "blade",
    "crane_hook",
    "mixer_drum",
    "tipper",
    "radar",
)
Colour = tuple[int, int, int]
Point = tuple[int, int]

# cos, sin of integer degrees in 1/16384. Rounded, so that the last bit of libm never changes a coordinate.
_TURN = [(round(16384 * np.cos(np.pi * d / 180)), round(16384 * np.sin(np.pi * d / 180))) for d in range(360)]
_CIRCLE = [_TURN[d] for d in range(0, 360, 30)]
_GLASS, _RUBBER, _HUB = (150, 190, 215), (38, 38, 42), (120, 120, 122)
_STUB_COLOURS = ((120, 120, 124), (96, 98, 100), (146, 142, 136))
_PART_GREY = (118, 118, 120)  # the common colour of inter-class similarity
_BODIES = (
    (150, 140, 95),
    (110, 120, 140),
    (165, 120, 90),
    (200, 190, 160),
    (95, 130, 130),
    (150, 85, 80),
    (125, 110, 150),
    (175, 165, 75),
)
_PART_COLOURS: tuple[Colour, ...] = (
    (48, 54, 46),
    (245, 200, 30),
    (245, 245, 245),
    (65, 130, 220),
    (220, 35, 45),
    (55, 190, 105),
    (238, 125, 35),
    (190, 75, 205),
)
_PART_SIDES = (400, 400, 345, 400, 390, 375, 355, 400)  # thousandths of a chassis; wide parts are smaller
_USUAL_MOUNT = ("roof", "front", "deck", "front", "deck", "deck", "deck", "roof")


class Polygon(NamedTuple):
    """One convex polygon of one colour. Later polygons cover earlier ones."""

    points: list[Point]  # blueprint coordinates
    colour: Colour
    of_part: bool


class Appearance(NamedTuple):
    """The deviation of a vehicle from the usual appearance of its class; the defaults are the plain vehicle."""

    variance: int = 0  # 0..3, intra-class: proportions, tilt, colours, mount of the part
    part_percent: int = 100  # size of the part
    part_grey: int = 0  # share of the common grey in the colour of the part, of 256
    stubs: int = 0  # decoys at free mounts


class Shape(NamedTuple):
    """A vehicle in half-pixels, starting at (0, 0). Vertices are inclusive: its size is max + 1."""

    points: Int[np.ndarray, "n 2"]
    ends: list[int]  # polygon i holds points[ends[i - 1]:ends[i]]
    colours: list[Colour]
    of_part: Bool[np.ndarray, "n"]  # per point
    label: int


class _Chassis(NamedTuple):
    polygons: list[Polygon]
    mounts: dict[str, Point]


def vehicle_shape(rng: RandomInts, label: int, size: int, appearance: Appearance) -> Shape:
    """A random vehicle of class `label`; its longer side has `size` half-pixels."""
    chassis = _chassis(rng, appearance.variance)
    mount = _USUAL_MOUNT[label]
    if rng.chance((0, 15, 40, 80)[appearance.variance]):
        mount = rng.choice(tuple(chassis.mounts))
    polygons = chassis.polygons + _stubs(rng, chassis.mounts, mount, appearance)
    polygons += _part(rng, label, chassis.mounts[mount], appearance)
    tilt = rng.between(-1, 1) * rng.between(0, (4, 7, 12, 20)[appearance.variance])
    return _to_half_pixels(polygons, label, size, tilt % 360, mirrored=rng.chance(50))


def _to_half_pixels(polygons: list[Polygon], label: int, size: int, tilt: int, mirrored: bool) -> Shape:
    lengths = [len(p.points) for p in polygons]
    points = np.array([xy for p in polygons for xy in p.points], np.int64)
    cos, sin = _TURN[tilt]
    x = points[:, 0] * (-1 if mirrored else 1)
    y = -points[:, 1]
    turned = np.stack([x * cos - y * sin, x * sin + y * cos], 1)
    turned -= turned.min(0)
    scaled = turned * (size - 1) // int(turned.max())
    of_part = np.repeat([p.of_part for p in polygons], lengths)
    return Shape(scaled, np.cumsum(lengths).tolist(), [p.colour for p in polygons], of_part, label)


def _chassis(rng: RandomInts, variance: int) -> _Chassis:
    def about(middle: int, spread: int) -> int:
        wide = spread * (4 + 3 * variance) // 4
        return max(middle // 3, rng.between(middle - wide, middle + wide))

    body = _jitter(rng, rng.choice(_BODIES), 12 + 16 * variance)
    trim = _jitter(rng, rng.choice(_BODIES), 40) if variance and rng.chance(30 * variance) else _shade(body, 80)
    wheel, height = about(105, 20), about(215, 40)
    cab_length, cab_height, nose = about(270, 50), about(230, 35), max(0, about(90, 80))
    floor = wheel * 5 // 4
    deck, roof = floor + height, floor + height + cab_height
    cab_front = 1000 - nose
    cab_back = cab_front - cab_length
    slope = rng.between(0, 80)
    hull = [(0, floor), (1000, floor), (1000, deck - rng.between(0, height // 3)), (cab_front, deck), (0, deck)]
    cab = [(cab_back, deck), (cab_front, deck), (cab_front - slope, roof), (cab_back, roof)]
    pane = cab_length // 7
    glass = [
        (cab_back + 2 * pane, deck + cab_height // 3),
        (cab_front - pane - slope // 3, deck + cab_height // 3),
        (cab_front - pane - slope, roof - cab_height // 6),
        (cab_back + 2 * pane, roof - cab_height // 6),
    ]
    polygons = [
        Polygon(hull, body, False),
        Polygon([(0, floor), (1000, floor), (1000, floor + height // 3), (0, floor + height // 3)], trim, False),
        Polygon(cab, trim if rng.chance(25 + 10 * variance) else body, False),
        Polygon(glass, _GLASS, False),
    ]
    polygons += _running_gear(rng, wheel)
    mounts = {
        "deck": (cab_back // 2, deck),
        "front": (1000, floor + height // 3),
        "roof": ((cab_back + cab_front) // 2, roof),
    }
    return _Chassis(polygons, mounts)


def _running_gear(rng: RandomInts, wheel: int) -> list[Polygon]:
    count = rng.between(2, 4)
    xs = [wheel + (1000 - 2 * wheel) * i // (count - 1) for i in range(count)]
    hubs = [Polygon(_disc(x, wheel, wheel // 2), _HUB, False) for x in xs]
    if rng.chance(50):
        track = [(wheel // 2, 0), (1000 - wheel // 2, 0), (1000, wheel), (1000 - wheel // 2, 2 * wheel)]
        return [Polygon([*track, (wheel // 2, 2 * wheel), (0, wheel)], _RUBBER, False), *hubs]
    return [Polygon(_disc(x, wheel, wheel), _RUBBER, False) for x in xs] + hubs


def _stubs(rng: RandomInts, mounts: dict[str, Point], taken: str, appearance: Appearance) -> list[Polygon]:
    """Decoys: a post, a box or a knob where a part could be."""
    polygons = []
    for i in range(appearance.stubs):
        free = [name for name in mounts if name != taken]
        x0, y0 = mounts[free[i % len(free)]]
        x0 += rng.between(-120, 60)
        side = 260 * appearance.part_percent // 100
        forms = (
            [(-20, 0), (20, 0), (20, 100), (-20, 100)],
            [(-50, 0), (50, 0), (50, 60), (-50, 60)],
            [(-50, 0), (40, 0), (70, 70), (0, 100), (-60, 60)],
            [(-40, 0), (0, 0), (100, 80), (80, 100)],
        )
        points = [(x0 + x * side // 100, y0 + y * side // 100) for x, y in rng.choice(forms)]
        polygons.append(Polygon(points, _jitter(rng, rng.choice(_STUB_COLOURS), 14), False))
    return polygons


def _part(rng: RandomInts, label: int, mount: Point, appearance: Appearance) -> list[Polygon]:
    v = appearance.variance
    side = _PART_SIDES[label] * rng.between(95 - 6 * v, 105 + 5 * v) * appearance.part_percent // 10_000
    stretch = rng.between(100 - 10 * v, 100 + 10 * v)
    lean = rng.between(-8 * v, 8 * v) % 360
    colour = _jitter(rng, _PART_COLOURS[label], 14)
    if v and rng.chance((0, 25, 50, 80)[v]):  # the colour no longer depends on the class
        colour = rng.choice((*_PART_COLOURS, *_BODIES))
    colour = _mix(colour, _jitter(rng, _PART_GREY, 10), appearance.part_grey)
    dark = _mix(_shade(colour, 55), colour, appearance.part_grey // 2)
    cos, sin = _TURN[lean]
    polygons = []
    for form, second in _PARTS[label]:
        placed = [(x * stretch // 100, y * 100 // stretch) for x, y in form]
        turned = [((x * cos - y * sin) >> 14, (x * sin + y * cos) >> 14) for x, y in placed]
        points = [(mount[0] + x * side // 1000, mount[1] + y * side // 1000) for x, y in turned]
        polygons.append(Polygon(points, dark if second else colour, True))
    return polygons


def _disc(x: int, y: int, radius: int) -> list[Point]:
    return [(x + (radius * cos >> 14), y + (radius * sin >> 14)) for cos, sin in _CIRCLE]


def _bar(x0: int, y0: int, x1: int, y1: int, wide: int) -> list[Point]:
    """A bar from one point to another; `wide` is its thickness."""
    across = (0, wide // 2) if abs(x1 - x0) > abs(y1 - y0) else (wide // 2, 0)
    dx, dy = across
    return [(x0 - dx, y0 - dy), (x1 - dx, y1 - dy), (x1 + dx, y1 + dy), (x0 + dx, y0 + dy)]


def _strip(one_side: list[Point], other_side: list[Point]) -> list[tuple[list[Point], bool]]:
    """A curved shape as convex pieces: the quadrilaterals between two sides."""
    corners = list(zip(one_side, other_side, strict=True))
    return [([a, b, d, c], False) for (a, b), (c, d) in itertools.pairwise(corners)]


# The parts in thousandths of their size, measured from the mount; True: drawn in the darker second colour.
_PARTS: tuple[tuple[tuple[list[Point], bool], ...], ...] = (
    (  # gun barrel: a dome, a long tube, a muzzle
        ([(-420, 0), (330, 0), (260, 250), (80, 360), (-220, 360), (-380, 220)], False),
        (_bar(100, 210, 1000, 330, 120), False),
        (_bar(900, 317, 1080, 341, 210), True),
    ),
    (  # excavator bucket: an arm and a scoop with teeth
        (_bar(-150, 420, 420, 560, 150), True),
        *_strip([(300, 640), (330, -60), (600, -260), (940, -180)], [(620, 560), (560, 300), (720, 140), (960, 120)]),
        ([(940, -180), (1060, 200), (840, 130)], True),
    ),
    (  # ladder: two rails and the rungs between them
        (_bar(-750, 30, 550, 560, 95), False),
        (_bar(-850, 330, 450, 860, 95), False),
        *((_bar(-770 + 270 * i, 60 + 108 * i, -850 + 270 * i, 320 + 108 * i, 80), False) for i in range(6)),
    ),
    (  # blade: a tall concave plate on a pusher
        (_bar(-100, 60, 300, 60, 160), True),
        *_strip(
            [(470, 690), (330, 330), (310, 60), (400, -170), (560, -330)],
            [(400, 700), (220, 480), (150, 140), (210, -130), (390, -330)],
        ),
        ([(400, -170), (560, -330), (380, -330), (270, -210)], True),
    ),
    (  # crane hook: a boom, a rope, a block and the hook
        ([(-420, 0), (-220, 0), (400, 980), (280, 1040)], False),
        (_bar(345, 990, 345, 640, 60), True),
        (_disc(345, 600, 110), False),
        *_strip(
            [(390, 520), (400, 400), (520, 290), (470, 130), (310, 60), (160, 130), (130, 270)],
            [(300, 520), (300, 390), (390, 300), (380, 220), (300, 180), (240, 200), (240, 270)],
        ),
    ),
    (  # mixer drum: a tilted barrel with bands and a mouth
        ([(-560, 260), (-480, 560), (-120, 760), (280, 660), (560, 380), (520, 160), (160, 20), (-300, 60)], False),
        ([(-330, 75), (-220, 65), (-140, 740), (-250, 690)], True),
        ([(120, 35), (230, 50), (310, 640), (200, 680)], True),
        ([(-560, 260), (-480, 560), (-660, 660), (-740, 400)], True),
    ),
    (  # tipper: a raised tray on a ram
        (_bar(150, 0, 260, 420, 90), True),
        ([(-700, 130), (-560, -30), (560, 520), (520, 900), (330, 860), (-480, 420)], False),
        ([(-560, -30), (560, 520), (552, 600), (-590, 40)], True),
    ),
    (  # radar: a mast, a dish and its feed
        (_bar(0, 0, 0, 420, 130), True),
        *_strip(
            [(-420, 820), (-400, 560), (-240, 350), (0, 280), (240, 330), (330, 420)],
            [(-420, 820), (-260, 800), (-160, 690), (-60, 620), (180, 480), (330, 420)],
        ),
        (_bar(-40, 500, 160, 860, 60), True),
        (_disc(170, 860, 90), False),
    ),
)


def _jitter(rng: RandomInts, colour: Colour, spread: int) -> Colour:
    red, green, blue = (min(255, max(0, c + rng.between(-spread, spread))) for c in colour)
    return red, green, blue


def _shade(colour: Colour, percent: int) -> Colour:
    red, green, blue = (c * percent // 100 for c in colour)
    return red, green, blue


def _mix(colour: Colour, other: Colour, weight: int) -> Colour:
    red, green, blue = ((a * (256 - weight) + b * weight) >> 8 for a, b in zip(colour, other, strict=True))
    return red, green, blue
