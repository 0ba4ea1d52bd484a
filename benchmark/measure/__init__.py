"""Commands that measure the suite on the machine at hand: `python -m benchmark.measure --help`."""
