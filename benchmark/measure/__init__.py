"""What the suite costs on the machine at hand: `python -m benchmark.measure --help`.

The topmost room: it may import every other one and analysis. Nobody imports it but `benchmark/throughput.py` and
`benchmark/latency.py`, which are commands of it; so what only measures never changes what a cell is trained with.
"""
