"""Weights & Biases: a projection of the records, beside a running sweep or after it."""
