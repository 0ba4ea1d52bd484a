"""The suite as an archive of its source and a wheel made of it: all of its files are there, and it says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata, util
from pathlib import Path

import pytest

from tests.conftest import ROOT, assert_one_line_refusal

FOLDERS = ("benchmark", "analysis", "sweeps", "slurm")


def _can_build() -> bool:
    return util.find_spec("pip") is not None and int(metadata.version("setuptools").split(".")[0]) >= 77


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if util.find_spec("setuptools") is None or not _can_build():
        pytest.skip("no build backend here: pip install 'setuptools>=77' pip")
    source, built, unpacked = (tmp_path_factory.mktemp(name) for name in ("source", "built", "unpacked"))
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    sdist = f"import setuptools.build_meta as backend; print(backend.build_sdist({str(built)!r}))"
    subprocess.run([sys.executable, "-c", sdist], cwd=source, check=True, timeout=300, capture_output=True)
    (archived,) = built.glob("*.tar.gz")
    options = ["--no-build-isolation", "--no-deps", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", built, archived], check=True, timeout=300)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    return unpacked


def run(unpacked: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m ...` with the unpacked wheel instead of this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "COLUMNS": "200"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_wheel_has_every_file_that_the_code_reads(unpacked: Path):
    """A package that is missing here is missing from `packages` in pyproject.toml."""
    for name in FOLDERS:
        inside = unpacked / name if name in ("benchmark", "analysis") else unpacked / "benchmark" / name
        files = (path for path in (ROOT / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        wanted = {path.relative_to(ROOT / name) for path in files if path.suffix}  # slurm/one-machine needs a clone
        assert {path for path in wanted if not (inside / path).is_file()} == set()


def test_a_wheel_knows_the_sweeps_and_the_profiles(unpacked: Path, tmp_path: Path):
    options = ("--dry-run", "--executor", "slurm", "--cluster", "one-gpu")
    finished = run(unpacked, tmp_path, "benchmark.sweep", "table1", *options)
    assert finished.returncode == 0, finished.stderr
    assert "table1 on digits: 162 cells" in finished.stdout
    assert "--partition=gpu" in finished.stdout


def test_tables_of_a_wheel_without_records_say_what_makes_some(unpacked: Path, tmp_path: Path):
    finished = run(unpacked, tmp_path, "analysis.make_tables")
    assert_one_line_refusal(finished, "--results results", "`python -m benchmark.sweep table1` makes records")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_documentation_builds_without_a_warning(tmp_path: Path):
    pytest.importorskip("sphinx", reason="sphinx is not installed: pip install -e '.[docs]'")
    for name in ("myst_parser", "furo"):
        pytest.importorskip(name)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(ROOT / "docs"), str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "sparsify" in (tmp_path / "reference.html").read_text(encoding="utf-8")
