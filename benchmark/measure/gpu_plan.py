"""The steps of `python -m benchmark.measure gpu`, in the order of what is worth knowing first. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

RECIPE = {"model": "resnet20", "epochs": "25", "milestones": "[11,22]", "precision": "bf16"}
"""Of Table 1: that of the committed run on CIFAR-10."""
REHEARSAL = 4
"""A rehearsal has so many times as long for a step: its machine has other work."""


@dataclass(frozen=True)
class PlanStep:
    """One command in a process of its own.

    Args:
        name: what results and --resume know it by.
        limit: seconds after which it is ended.
        arguments: of `python -m`.
        answers: what it is for.
        takes_the_rest: it has all the time that is left, and may be interrupted and go on.
        lines: how many of the last ones that it prints are shown.
        folder: what it makes in the folder that lasts as long as the call; --resume makes it again.
        needs: what an earlier step has made, or the user has.
    """

    name: str
    limit: float
    arguments: tuple[str, ...]
    answers: str
    takes_the_rest: bool = False
    lines: int = 40
    folder: Path | None = None
    needs: Path | None = None


def plan(device: str, data: Path | None, results: Path, scratch: Path) -> list[PlanStep]:
    """On a processor all steps are tiny: a rehearsal.

    Args:
        device: as --device names it.
        data: CIFAR-10's images, a folder or a tar archive; None where the processor rehearses with digits.
        results: the results folder of the sweeps that --resume goes on with.
        scratch: a folder for what no later call needs.
    """
    rehearsal = device == "cpu"
    steps = [
        *_checks(device, rehearsal, scratch),
        *_measurements(device, rehearsal),
        *_sweeps(device, rehearsal, data, results, scratch),
    ]
    return [replace(step, limit=REHEARSAL * step.limit) for step in steps] if rehearsal else steps


def _checks(device: str, rehearsal: bool, scratch: Path) -> Iterator[PlanStep]:
    on, tiny = ("--device", device), _tiny(rehearsal)
    smoke = {"model": "resnet8", "training_share": 0.03, "image_size": 16} if rehearsal else {}
    yield PlanStep(
        "smoke", 60, ("benchmark.measure", "smoke", *on, *_set(smoke), *tiny),
        "does everything work, and without waiting for the device?",
    )  # fmt: skip
    pool = {"epochs": 4, "milestones": "[2]", "warmup_epochs": 0, **({"training_share": 0.2} if rehearsal else {})}
    yield PlanStep(
        "pool", 40,
        ("benchmark.sweep", "table1", *on, "--seeds", "1", "--only", "sparsity=0.9,budget=11.11%", *_set(pool),
         "--workers", "2", "--cells-per-gpu", "2", "--tracking", "off", "--results", str(scratch / "pool")),
        "do two workers share a GPU?", lines=1,
    )  # fmt: skip


def _measurements(device: str, rehearsal: bool) -> Iterator[PlanStep]:
    on, tiny = ("--device", device), _tiny(rehearsal)

    def turns(iterations: int, repeats: int = 3) -> tuple[str, ...]:
        chosen = (1, 1) if rehearsal else (iterations, repeats)
        return ("--iterations", str(chosen[0]), "--repeats", str(chosen[1]))

    cases = [(model, precision) for model in ("resnet20", "resnet56") for precision in ("fp32", "tf32", "bf16")]
    for model, precision in [("resnet8", "bf16")] if rehearsal else [*cases, ("resnet18", "bf16")]:
        yield PlanStep(
            f"{model}-{precision}", 25,
            ("benchmark.throughput", "--problem", "cifar10", "--synthetic", "--model", model, *on,
             *_set({"precision": precision}), *tiny, *turns(84)),
            "images/s of the suite's loop, and over a bare one",
        )  # fmt: skip
    first = "resnet8" if rehearsal else "resnet20"
    for count in (2,) if rehearsal else (1, 2, 4, 8):
        yield PlanStep(
            f"packed-{count}", 25,
            ("benchmark.measure", "packed", *on, "--count", str(count), *_set({"model": first}), *tiny, *turns(56, 2)),
            "images/s of processes that share the GPU",
        )  # fmt: skip
    yield PlanStep(
        "memory", 25,
        ("benchmark.measure", "memory", *on, "--model", first, *(("--images", "500") if rehearsal else ()),
         "--iterations", "4"),
        "how many cells fit on the GPU",
    )  # fmt: skip
    for model in (first,) if rehearsal else ("resnet20", "resnet56"):
        for processes in (1, 2) if rehearsal else (1, 4):
            yield PlanStep(
                f"graph-{model}-{processes}", 30,
                ("benchmark.measure", "graph", *on, "--model", model, "--processes", str(processes), "--loops", "graph",
                 *tiny, *turns(140)),
                "what the whole step in one CUDA graph gains, and whether its losses are eager training's",
            )  # fmt: skip
    if not rehearsal:
        yield PlanStep(
            "compiled-resnet20", 60,
            ("benchmark.measure", "graph", *on, "--model", "resnet20", "--loops", "reduce-overhead", *turns(140)),
            "the same of torch.compile's graphs",
        )  # fmt: skip
    size = ("--size", "1e5", "--rounds", "1") if rehearsal else ("--rounds", "10")
    yield PlanStep(
        "selection", 25,
        ("benchmark.measure", "selection", *on, "--against", "kthvalue,sort,topk", *size),
        "the exact selection over torch's",
    )  # fmt: skip
    yield PlanStep(
        "methods", 40,
        ("benchmark.throughput", "--methods", "all", "--problem", "cifar10", "--synthetic", *on,
         "--model", "resnet8" if rehearsal else "resnet56", *tiny, *turns(20, 2)),
        "what each method's step costs over dense training",
    )  # fmt: skip


def _sweeps(device: str, rehearsal: bool, data: Path | None, results: Path, scratch: Path) -> Iterator[PlanStep]:
    images = data
    if data is not None and not data.is_dir():
        images = scratch / "images"
        yield PlanStep(
            "images", 60, ("tarfile", "-e", str(data), str(images)), "unpacks the images of Table 1", folder=images
        )
    small = {"model": "resnet8", "epochs": 4, "milestones": "[2]", "warmup_epochs": 0, "training_share": 0.2}
    problem = "digits" if data is None else "cifar10"
    shared = (
        *("--device", device, "--problem", problem, *(("--data", str(images)) if images else ())),
        *_set(small if rehearsal else RECIPE),
        *("--cells-per-gpu", "5", "--tracking", "off", "--validate-every", "5", "--checkpoint-seconds", "20"),
        *("--results", str(results)),
    )
    few = ("--seeds", "1", "--only", "schedule=LLR,sparsity=0.9") if rehearsal else ("--seeds", "5")
    if data is not None or rehearsal:
        yield PlanStep(
            "table1", 600, ("benchmark.sweep", "table1", *shared, *few),
            "Table 1 with five seeds, until time is up", takes_the_rest=True, lines=1, needs=images,
        )  # fmt: skip
    if not rehearsal:
        large = {"image_size": 224, "batch_size": 128, "precision": "bf16"}
        yield PlanStep(
            "resnet50-224", 60,
            ("benchmark.throughput", "--problem", "cifar10", "--synthetic", "--model", "resnet50", "--device", device,
             *_set(large), "--iterations", "6", "--repeats", "3"),
            "images/s of ResNet-50 on ImageNet's images",
        )  # fmt: skip
        for processes in (1, 4):
            yield PlanStep(
                f"compiled-resnet56-{processes}", 120,
                ("benchmark.measure", "graph", "--device", device, "--model", "resnet56", "--processes", str(processes),
                 "--iterations", "140", "--repeats", "3"),
                "graphs beside torch.compile's",
            )  # fmt: skip
    if data is not None or rehearsal:
        yield PlanStep(
            "latencies", 120,
            ("benchmark.sweep", "retraining_variants", *shared, "--seeds", "1",
             "--only", "criterion=filters,schedule=SLR,budget=5.55%,stages=even"),
            "latency of networks that lost filters, in their records", lines=1, needs=images,
        )  # fmt: skip


def _tiny(rehearsal: bool) -> tuple[str, ...]:
    return _set({"width": 2, "batch_size": 8}) if rehearsal else ()


def _set(recipe: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(part for key, value in recipe.items() for part in ("--set", f"{key}={value}"))
