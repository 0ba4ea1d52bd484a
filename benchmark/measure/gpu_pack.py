"""What `python -m benchmark.measure gpu` needs on a machine without network that has torch and the usual packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from benchmark.errors import UserError
from benchmark.results.provenance import ROOT

MISSING = ("pydantic", "pydantic_core", "annotated-types", "typing-inspection", "torch-pruning")
"""Of the suite's packages and theirs, what such a machine lacks; wandb, submitit and plotly are not needed."""
PARTS = ("benchmark", "analysis", "sweeps", "slurm", "pyproject.toml")
MOST_BYTES = 40_000_000


def fill(folder: Path, data: Path | None, python: str) -> Iterator[str]:
    """Make `folder`, whole or not at all, and say how it is used. Raises UserError.

    Args:
        folder: the new folder.
        data: an archive of CIFAR-10's images to take along.
        python: the version that packages are taken for, on Linux for x86-64.
    """
    if folder.exists():
        raise UserError(f"--pack {folder}: it exists; name a new folder")
    if data is not None and not data.is_file():
        raise UserError(f"--data {data}: an archive of the images is needed here, such as images.tar.xz")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pack-", dir=folder.parent) as place:
            new = Path(place) / folder.name
            _copy_code(new / "suite")
            _fetch_packages(new / "packages", Path(place), python)
            if data is not None:
                shutil.copy(data, new)
            size = sum(file.stat().st_size for file in new.rglob("*") if file.is_file())
            if size > MOST_BYTES:
                raise UserError(
                    f"--pack {folder}: {size / 1e6:.0f} MB, more than {MOST_BYTES / 1e6:.0f}; without --data, take the "
                    "images along on their own"
                )
            new.rename(folder)
    except OSError as error:
        raise UserError(f"--pack {folder}: it cannot be made ({error.strerror or error})") from None
    images = "" if data is None else f" --data ../{data.name}"
    yield f"{folder}: {size / 1e6:.1f} MB; there, in its folder suite/ and with a results folder outside of it:"
    yield f"PYTHONPATH=../packages python3 -m benchmark.measure gpu --budget 570 --out RESULTS{images}"


def _copy_code(folder: Path) -> None:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)


def _fetch_packages(folder: Path, place: Path, python: str) -> None:
    """The installed versions of MISSING, unpacked, so that PYTHONPATH can name the folder."""
    try:
        packages = [f"{name}=={metadata.version(name)}" for name in MISSING]
    except metadata.PackageNotFoundError as error:
        raise UserError(f"--pack: {error.name} is not installed here: pip install {error.name}") from None
    wheels = place / "wheels"
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
        *("--implementation", "cp", "--python-version", python),
        *("--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64", "--dest", str(wheels)),
        *packages,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise UserError(f"--pack: pip cannot fetch {', '.join(packages)} for Python {python}: {lines[-1]}")
    for wheel in wheels.iterdir():
        with zipfile.ZipFile(wheel) as content:
            content.extractall(folder)
