"""Targets that stand for no class and no word. No torch: data sets need them too."""

IGNORED = 255
"""A pixel of this class has no label: it is in no loss and no metric (Pascal VOC's border, Cityscapes' void)."""

PADDING = 0
"""Behind a sentence that is shorter than the longest; in no loss and no metric."""
START = 1
STOP = 2
FIRST = 3
"""The first that is a word."""
