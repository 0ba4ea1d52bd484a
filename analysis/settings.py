"""A setting of hyperparameters as the text that a DataFrame holds: JSON with sorted keys, "" for the defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def text_of(hyperparameters: Mapping[str, Any]) -> str:
    return json.dumps(dict(hyperparameters), sort_keys=True) if hyperparameters else ""


def values_of(text: str) -> dict[str, Any]:
    return json.loads(text) if text else {}


def in_words(text: str) -> str:
    return ", ".join(f"{key} {value}" for key, value in values_of(text).items())
