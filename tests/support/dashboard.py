"""The queries of the dashboard and the recording rules."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest
import yaml

from tests.support.repository import ROOT

DEPLOY: Final = ROOT / "deploy"
RULES: Final = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
VARIABLES: Final = {"$job": "fraud-worker", "$instance": ".+", "$__rate_interval": "20s"}


class Query(NamedTuple):
    """One query of one panel, as the file has it."""

    panel: str
    expr: str

    @property
    def filled_in(self) -> str:
        """The query with a value in place of each variable."""
        text = self.expr
        for name, value in VARIABLES.items():
            text = text.replace(name, value)
        return text


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    text = (DEPLOY / "grafana" / "dashboards" / "fraud-worker.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels without the rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Yield the queries of all panels."""
    for panel in panels():
        for target in panel["targets"]:
            yield Query(panel["title"], target["expr"])


def rules() -> list[dict[str, Any]]:
    """Return the rules that record."""
    return [rule for rule in _rules() if "record" in rule]


def alerts() -> list[dict[str, Any]]:
    """Return the rules that alert."""
    return [rule for rule in _rules() if "alert" in rule]


def _rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def series_of(expr: str) -> set[str]:
    """Return the names of our series in an expression, recorded or not."""
    return set(re.findall(r"\b[a-z_:]*fraud_worker_[a-z0-9_:]+", expr))


def tool(name: str, package: str) -> str:
    """Return the path of a program; without it skip the test, but fail in CI."""
    path = shutil.which(name)
    if path is None:
        assert os.environ.get("CI") != "true", f"CI must have {name} (Debian package {package})"
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return path
