"""A real Prometheus, configured as in the stack, scrapes a real worker: every panel shows data."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.vocabulary import Flag
from tests.support.dashboard import DEPLOY, Query, dashboard, queries, tool
from tests.support.site import Site
from tests.support.traffic import records_of, small_traffic
from tests.support.waiting import DECIDE_S, wait_for
from worker.broker.embedded import free_port

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration


class Prometheus:
    """A Prometheus of our own that scrapes one worker every second."""

    def __init__(self, binary: str, folder: Path, target: str) -> None:
        self._binary, self._folder, self._port = binary, folder, free_port()
        shutil.copytree(DEPLOY / "prometheus", folder / "config")
        config = folder / "config" / "prometheus.yml"
        text, targets = re.subn(r"worker:8080", target, config.read_text(encoding="utf-8"))
        text, intervals = re.subn(r"interval: 5s", "interval: 1s", text)
        assert (targets, intervals) == (1, 2)
        config.write_text(text, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        options = (
            f"--config.file={self._folder}/config/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address=127.0.0.1:{self._port}",
        )
        with (self._folder / "log").open("wb") as out:
            self._process = subprocess.Popen([self._binary, *options], stdout=out, stderr=out)
        wait_for(self._is_up, 60.0, lambda: (self._folder / "log").read_text()[-2000:])
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _is_up(self) -> bool:
        try:
            return self._get("/-/ready") is not None
        except OSError:
            return False

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        answer = json.loads(self._get(f"/api/v1/query?{urllib.parse.urlencode({'query': expr})}"))
        assert answer["status"] == "success"
        samples: list[dict[str, Any]] = answer["data"]["result"]
        return samples

    def has_data(self, expr: str, *, finite: bool = True) -> bool:
        """Return whether the query gives a number, a finite one unless told otherwise."""
        return any(not finite or math.isfinite(float(sample["value"][1])) for sample in self.query(expr))


AFTER_A_WEEK = {"What each policy brought a day"}
"""Panels that have NaN until so much has matured."""


def test_every_panel_shows_data_of_a_worker_under_load_with_a_challenger_in_shadow(
    kafka: Broker, tmp_path: Path
) -> None:
    binary = tool("prometheus", "prometheus")
    site = Site(kafka.bootstrap, tmp_path, sections={"model": {"challenger": "shadow"}})
    records = records_of(small_traffic())
    cut = len(records) * 4 // 5
    with site.worker() as worker:
        address = f"{worker.settings.health.host}:{worker.settings.health.port}"
        folder = tmp_path / "prometheus"
        folder.mkdir()
        with Prometheus(binary, folder, address) as prometheus:
            empty = {(query.panel, query.filled_in) for query in queries()}

            def filled() -> bool:
                empty.difference_update(
                    [it for it in empty if prometheus.has_data(it[1], finite=it[0] not in AFTER_A_WEEK)]
                )
                return not empty

            site.feed(records[:cut])
            wait_for(
                lambda: site.folded().online_is_trusted,
                DECIDE_S,
                lambda: "no generation",
                [worker],
                every_s=0.5,
            )
            site.feed(records[cut:])
            wait_for(filled, 60.0, lambda: f"no data: {sorted(empty)}", [worker], every_s=1.0)
            for annotation in dashboard()["annotations"]["list"]:
                prometheus.query(Query(annotation["name"], annotation["expr"]).filled_in)
            decided = prometheus.query('sum(fraud_worker_decisions_total{job="fraud-worker"})')
            assert float(decided[0]["value"][1]) > 0
            assert site.folded().challenger is not None
            site.wait_until_decided(worker)
            challenger = worker.metric("fraud_worker_challenger_disagreements_total")
            outcome = site.assert_everything_once()
            flags = np.concatenate([rows.flags for entry in outcome.entries for rows in entry.rows])
            alerted, would = (flags & it != 0 for it in (Flag.ALERTED, Flag.CHALLENGER_WOULD_ALERT))
            assert challenger == np.count_nonzero(alerted != would) > 0
