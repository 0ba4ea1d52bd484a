"""`python -m tests.audit`: known vulnerabilities of the dependencies, in one line more than what is found.

pip-audit asks the package index about each version of constraints.txt. Where there is no network, or the index does not
know a package, nothing is audited; it would print "No known vulnerabilities found" all the same, which this does not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
PATIENCE_SECONDS = 180.0
COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"),
    *("--format", "json", "--progress-spinner", "off", "--timeout", "10"),
)


def main(strict: bool) -> int:
    """Print what was found. strict: exit with 1 if something was; a commit that passed stays good for `make check`."""
    lines, found = describe(*ask())
    print("\n".join(lines))
    return 1 if strict and found else 0


def ask() -> tuple[str, str]:
    """(JSON of pip-audit, or "", and why there is none)."""
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {PATIENCE_SECONDS:g} s"
    return done.stdout, (done.stderr.strip().splitlines() or ["no output"])[-1]


def describe(output: str, trouble: str) -> tuple[list[str], int]:
    """(lines to print, number of vulnerabilities)."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return [f"pip-audit: nothing was audited ({trouble[:200]})"], 0
    audited = [package for package in packages if "skip_reason" not in package]
    found = [(package, problem) for package in audited for problem in package["vulns"]]
    if not audited:
        return [f"pip-audit: nothing was audited: the package index knows none of the {len(packages)} packages"], 0
    lines = [
        f"{package['name']} {package['version']}: {problem['id']}, fixed in {', '.join(problem['fix_versions']) or '-'}"
        for package, problem in found
    ]
    skipped = f", {len(packages) - len(audited)} unknown to the index" if len(audited) < len(packages) else ""
    return [*lines, f"pip-audit: {len(found)} known vulnerabilities in {len(audited)} packages{skipped}"], len(found)


if __name__ == "__main__":
    sys.exit(main(strict="--strict" in sys.argv[1:]))
