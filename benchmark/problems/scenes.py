"""Scenes: a semi-synthetic data set for segmentation, composed of real images of handwritten digits.

A scene has a few digits at random places and scales on a textured background; a later one may hide parts of an earlier
one. Its mask is exact: a pixel belongs to the digit that painted it last, or else to class 0. Scenes are made of
integers from fixed seeds, so that they are the same on every machine. Imports no torch.
"""

from __future__ import annotations

import numpy as np

from benchmark.problems.cache import Split

SIZE = 24
KINDS = 5
"""The digits 0 to 4 are in the scenes, as the classes 1 to 5; a small network learns all ten too slowly."""
CLASSES = KINDS + 1
SCENES = {"training": 1500, "test": 500}
DIGITS = (2, 3)
"""Of a scene, from the fewest to the most."""
SIDES = (8, 12)
"""Pixels a side that a digit of 8 x 8 pixels is scaled to."""
STROKE = 128
"""The least grey level, of 255, that counts as a stroke of the pen; what is darker stays background."""
INK = (200, 255)
"""The grey level of a digit's brightest pixel."""
PATCH, PATCH_LEVELS, GRAIN_LEVELS = 8, 60, 30
"""The background: pixels a side of a patch of one grey level, the levels it may have, and what single pixels add."""


def compose(source: Split, name: str) -> Split:
    """The scenes of a split, of images of 8 x 8 digits from that split alone. name: "training" or "test"."""
    chosen = source.labels < KINDS
    digits, labels = source.images[chosen], source.labels[chosen]
    count, most = SCENES[name], DIGITS[1]
    stream = np.random.default_rng(list(SCENES).index(name))
    scenes = np.zeros((count, SIZE, SIZE, 2), dtype=np.uint8)
    patches = stream.integers(PATCH_LEVELS, size=(count, SIZE // PATCH, SIZE // PATCH))
    grain = stream.integers(GRAIN_LEVELS, size=(count, SIZE, SIZE))
    scenes[..., 0] = patches.repeat(PATCH, 1).repeat(PATCH, 2) + grain
    numbers = stream.integers(DIGITS[0], most + 1, size=count)
    which = stream.integers(len(digits), size=(count, most))
    sides = stream.integers(SIDES[0], SIDES[1] + 1, size=(count, most))
    corners = stream.integers(SIZE - sides + 1, size=(2, count, most))
    inks = stream.integers(INK[0], INK[1] + 1, size=(count, most))
    nearest = {side: np.arange(side) * digits.shape[1] // side for side in range(SIDES[0], SIDES[1] + 1)}
    for scene, number in enumerate(numbers):
        for k in range(number):
            digit, side, (top, left) = which[scene, k], int(sides[scene, k]), corners[:, scene, k]
            grey = digits[digit, nearest[side][:, None], nearest[side], 0]
            window = scenes[scene, top : top + side, left : left + side]
            painted = grey >= STROKE
            window[painted, 0] = grey[painted].astype(np.int64) * inks[scene, k] // 255
            window[painted, 1] = labels[digit] + 1
    return Split(scenes, np.zeros(count, dtype=np.int64), masked=True)
