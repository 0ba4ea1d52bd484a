"""`python -m benchmark.throughput`: what the training loop costs beyond forward, backward and step.

Both loops train the same network on this machine in the same run, turn by turn, so that their ratio stands on a shared
and noisy machine where absolute numbers do not. `--against` compares with something else than a bare loop, `--methods`
what each method's step costs with dense training: benchmark/measure/throughput.py says how.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from benchmark import cli
from benchmark.measure.common import Device, Folder, Iterations, Name, Repeats, Set, Threads

app = cli.make_app()
NOISE = {
    "dataset": "noise", "image_size": 32, "channels": 3, "crop_padding": 4, "flip": True, "width": 0, "batch_size": 128
}  # fmt: skip


@app.command()
def throughput(
    problem: Name = "digits",
    model: Annotated[str | None, typer.Option(help="Another network: resnet20, resnet56")] = None,
    synthetic: Annotated[
        bool,
        typer.Option(
            "--synthetic", help="3x32x32 noise instead of its images, in batches of 128, with crops and flips"
        ),
    ] = False,
    set_: Set = None,
    data: Folder = None,
    iterations: Iterations = 17,
    repeats: Repeats = 15,
    threads: Threads = 1,
    device: Device = "auto",
    against: Annotated[str | None, typer.Option(help="bare (the default), research, null, pillow or plain-dst")] = None,
    methods: Annotated[str | None, typer.Option(help="Methods over dense training: all, or DNW,GSM")] = None,
) -> int:
    """Images per second of the suite's training loop over a bare loop, in the same run."""
    from benchmark.measure.throughput import compare

    settings = {**(NOISE if synthetic else {}), **cli.parse_settings(set_ or []), **({"model": model} if model else {})}
    print(*compare(problem, settings, device, data, threads, iterations, repeats, against, methods), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(app, prints_only=True))
