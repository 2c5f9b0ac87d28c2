"""How fast is the challenge set drawn on one core, and how long does its metadata take?

    python benchmarks/challenge_speed.py

Measures processor time of this process, so other work on the machine has little effect. Goal: at least 200 images/s at
160 x 160, and the records of 2,000 images in less than 2 s.
"""

import time

import cv2

from lga_jax.data.challenge.source import Challenge


def main() -> None:
    cv2.setNumThreads(1)
    start = time.process_time()
    Challenge(2000)
    print(f"records of 2,000 images: {time.process_time() - start:.2f} s")
    print("| image | images/s on one core | slowest challenge, images/s |")
    print("|---|---|---|")
    for side in (160, 256):
        every = images_per_second(Challenge(200, image_hw=(side, side)))
        names = ("complex_environment", "motion_blur", "camouflage")
        slow = min(images_per_second(Challenge(100, 0, (side, side), (name,), (3,))) for name in names)
        print(f"| {side} x {side} | {every:.0f} | {slow:.0f} |")


def images_per_second(source: Challenge) -> float:
    source.image(0)
    start = time.process_time()
    for index in range(len(source.records)):
        source.image(index)
    return len(source.records) / (time.process_time() - start)


if __name__ == "__main__":
    main()
