"""From a sweep file to what is left to train. Imports no torch."""
