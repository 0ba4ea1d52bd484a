"""Data sets and networks, by the names that problem files use."""
