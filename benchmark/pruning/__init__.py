"""Pruning: which weights, how many of them, masks that keep them at zero, and what that saves."""
