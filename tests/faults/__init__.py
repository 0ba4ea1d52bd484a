"""Faults done to the suite on purpose, and whether every result survives them: `python -m tests.faults`."""
