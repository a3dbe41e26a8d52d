from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest

from worker.live import app
from worker.settings.sections import Settings
from worker.signals import ENDING, handled_by, held_back, ignore, interrupt, run_process


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_interrupts_and_the_next_ones_wait_for_nobody(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in ENDING]
    with handled_by(ignore):
        with pytest.raises(KeyboardInterrupt), handled_by(interrupt):
            signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)  # cleaning up goes on
    assert [signal.getsignal(each) for each in ENDING] == before


@pytest.mark.parametrize("number", ENDING)
def test_a_worker_ends_in_order_on_every_signal_that_ends_a_command(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = []

    class Running:
        def __init__(self, settings: Settings) -> None:
            del settings

        def run(self) -> None:
            signal.raise_signal(number)

        def stop(self) -> None:
            received.append(number)

    monkeypatch.setattr(app, "Worker", Running)
    with handled_by(ignore):
        assert app.run(Settings(entity_key="00" * 16)) == 0
    assert received == [number]


def test_a_signal_that_is_held_back_comes_at_the_end() -> None:
    reached = []

    def begin() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            reached.append("inside")
        reached.append("behind")

    with handled_by(ignore), pytest.raises(KeyboardInterrupt), handled_by(interrupt):
        begin()
    assert reached == ["inside"]


def test_other_threads_hold_nothing_back() -> None:
    done = []

    def hold() -> None:
        with held_back():
            done.append(True)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert done == [True]


def test_a_child_hears_what_its_parent_does_not() -> None:
    code = "import signal; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    with handled_by(ignore):
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout == "True\n"


def test_under_nohup_a_command_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled_by(interrupt):
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) is interrupt
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_ends_with_the_command_that_is_interrupted(tmp_path: Path) -> None:
    def once_it_runs(number: int, frame: FrameType | None) -> None:
        del number, frame
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(encoding="utf-8"):
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, once_it_runs)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_process(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), 0)


def test_a_process_that_takes_too_long_is_ended_and_one_that_ends_is_returned() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_process(["sleep", "60"], timeout_s=0.05)
    ended = run_process(
        ["sh", "-c", "echo out; echo err >&2; exit 3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("out\n", "err\n", 3)
