"""The symbols of a translation that are no words. No torch: data sets need them too."""

PADDING = 0
"""Behind a sentence that is shorter than the longest; in no loss and no metric."""
START = 1
STOP = 2
FIRST = 3
"""The first that is a word."""
