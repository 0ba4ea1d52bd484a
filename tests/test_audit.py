"""The audit of the dependencies claims no more than was asked and answered."""

from __future__ import annotations

import json

from tests.audit import describe


def report(*packages: dict) -> str:
    return json.dumps({"dependencies": list(packages), "fixes": []})


SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.15.0)"}
CLEAN = {"name": "rich", "version": "15.0.0", "vulns": []}
BAD = {"name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.0"], "description": "..."}]}


def test_an_index_that_knows_no_package_is_no_clean_bill():
    (line,), found = describe(report(SKIPPED, SKIPPED), "No known vulnerabilities found")
    assert "nothing was audited" in line
    assert "none of the 2 packages" in line
    assert found == 0


def test_no_network_and_no_pip_audit_are_said_in_one_line():
    for trouble in ("No module named pip_audit", "ConnectionError", "no answer within 180 s"):
        (line,), found = describe("", trouble)
        assert line == f"pip-audit: nothing was audited ({trouble})"
        assert found == 0


def test_what_is_found_is_named_and_what_was_not_asked_is_counted():
    lines, found = describe(report(SKIPPED, CLEAN, BAD), "")
    assert lines[0] == "pillow 1.0: CVE-1, fixed in 2.0"
    assert lines[1] == "pip-audit: 1 known vulnerabilities in 2 packages, 1 unknown to the index"
    assert found == 1
