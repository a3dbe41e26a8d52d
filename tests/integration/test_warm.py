"""What an image compiles beforehand is all that a worker would compile."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.repository import ROOT
from tests.support.run_worker import SIGNATURES
from tests.support.site import Site
from tests.support.traffic import InputRecord, records_of, small_traffic

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

WARM = """
from tests.support.run_worker import signatures
from worker.warm import warm
warm()
print(*signatures(), sep="\\n")
"""


def test_a_worker_compiles_nothing_that_was_not_compiled_beforehand(
    kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(kafka.bootstrap, tmp_path)
    records = records_of(small_traffic())
    bad = [InputRecord("transactions", b"c", b"{", records[0].timestamp_ms)] * 20
    half = len(records) // 2
    called = set()
    for number, part in enumerate((records[:half], records[half:])):  # the second start restores
        site.feed(part, bad)
        monkeypatch.setenv(SIGNATURES, str(tmp_path / f"signatures-{number}"))
        with site.worker() as worker:
            site.wait_until_decided(worker)
            worker.signal(signal.SIGTERM)
            worker.wait_for_exit(30.0)
        called |= set((tmp_path / f"signatures-{number}").read_text(encoding="utf-8").splitlines())
    assert len(called) > 20
    assert called - _compiled_beforehand() == set()


def _compiled_beforehand() -> set[str]:
    done = subprocess.run([sys.executable, "-c", WARM], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())
