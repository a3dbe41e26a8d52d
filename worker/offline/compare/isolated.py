"""Runs each strategy in a process of its own, under its caps: what one does wrong, no other row notices.

Processes share nothing but files: numbers as .npy and JSON, never pickles.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Final, TextIO

import numpy as np

from worker.offline.compare.engine import Tried, try_out
from worker.offline.compare.families.extras import imported
from worker.offline.compare.material import Material
from worker.offline.compare.result import Block, Decided
from worker.offline.compare.strategy import Caps, LeftOutError, Strategy

REGISTRY: Final = "worker.offline.compare.registry:strategy_named"
"""Where a process finds a strategy: a function that takes its name."""

_JOB, _REASON, _NUMBERS, _LOG = "job.json", "reason.txt", "numbers.json", "log.txt"
_POLL_S: Final = 0.05
_MEMORY_EVERY_S: Final = 0.25
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_STOPPED: Final = "not run: the comparison was stopped"

OnChange = Callable[[int, int, list[str]], None]
"""Takes how many strategies are done, how many there are, and the names of those in hand."""


def ignore_change(done: int, total: int, names: list[str]) -> None:
    """Do nothing: the `OnChange` of a caller that shows none."""
    del done, total, names


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of one strategy.

    Attributes
    ----------
    blocks
        What it did, by block; those it did not reach are absent.
    reason
        Why it did not reach them; None where it reached all.
    """

    blocks: dict[Block, Tried]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Results:
    """What came of all strategies, by name, and whether the user stopped them."""

    finished: dict[str, Finished]
    interrupted: bool


def run_isolated(
    folder: Path,
    strategies: Sequence[Strategy],
    *,
    seed: int,
    jobs: int,
    on_change: OnChange,
    registry: str = REGISTRY,
) -> Results:
    """Run strategies side by side, each in a process of its own.

    Parameters
    ----------
    folder
        Holds what `Material.save` wrote; results go beside it.
    strategies
        Which ones. A process finds its strategy by name.
    seed
        Decides everything random.
    jobs
        How many processes run at a time; they share the processors.
    on_change
        Called whenever a strategy begins or ends.
    registry
        `module:function` that returns a strategy by its name.
    """
    waiting, running = list(strategies), list[_Process]()
    finished: dict[str, Finished] = {}
    interrupted = False
    environment = _environment(max((os.cpu_count() or 1) // jobs, 1))

    def report() -> None:
        on_change(len(finished), len(strategies), [it.strategy.name for it in running])

    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                strategy = waiting.pop(0)
                job = folder / f"strategy-{len(strategies) - len(waiting)}"
                running.append(_Process.started(strategy, job, seed, registry, environment))
                report()
            for process in [it for it in running if it.ended()]:
                running.remove(process)
                finished[process.strategy.name] = process.finished()
                report()
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for process in running:
            process.kill()
    for process in running:
        finished[process.strategy.name] = replace(process.finished(), reason=_STOPPED)
    for strategy in waiting:
        finished[strategy.name] = Finished({}, _STOPPED)
    return Results(finished, interrupted)


@dataclass(slots=True)
class _Process:
    """One strategy at work, seen from outside."""

    strategy: Strategy
    job: Path
    popen: subprocess.Popen[bytes]
    log: TextIO
    reason: str | None = None
    blocks_done: int = 0
    block_since_s: float = field(default_factory=time.monotonic)
    memory_due_s: float = 0.0

    @classmethod
    def started(
        cls, strategy: Strategy, job: Path, seed: int, registry: str, environment: dict[str, str]
    ) -> _Process:
        job.mkdir()
        (job / _JOB).write_text(json.dumps({"strategy": strategy.name, "seed": seed, "registry": registry}))
        log = (job / _LOG).open("w")
        # A session of its own: Ctrl-C at the terminal reaches the parent alone, which then keeps what is done.
        popen = subprocess.Popen(
            [sys.executable, "-m", __name__, str(job)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        return cls(strategy, job, popen, log)

    def ended(self) -> bool:
        """Return whether it has ended; end it where it exceeds a cap."""
        if self.popen.poll() is not None:
            return True
        now_s, caps = time.monotonic(), self.strategy.caps
        done = sum((self.job / block.value / _NUMBERS).exists() for block in Block)
        if done > self.blocks_done:
            self.blocks_done, self.block_since_s = done, now_s
        if now_s - self.block_since_s > caps.seconds:
            self.reason = f"took longer than its {time_text(caps)}; --max-seconds gives it more"
        elif now_s >= self.memory_due_s:
            self.memory_due_s = now_s + _MEMORY_EVERY_S
            if resident_bytes(self.popen.pid) > caps.memory_bytes:
                self.reason = f"needed more than its {memory_text(caps)} of memory; fewer columns need less"
        if self.reason is not None:
            self.kill()
        return self.reason is not None

    def kill(self) -> None:
        """End it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def finished(self) -> Finished:
        """Return what it left behind."""
        code = self.popen.wait()
        self.log.close()
        blocks = {block: tried for block in Block if (tried := _read_tried(self.job, block)) is not None}
        if len(blocks) == len(Block):
            return Finished(blocks, None)
        written = self.job / _REASON
        reason = self.reason or (written.read_text() if written.exists() else self._death(code))
        return Finished(blocks, reason)

    def _death(self, code: int) -> str:
        if code == -signal.SIGKILL:
            return "ended by the system, most likely because memory ran out"
        if code < 0:
            return f"crashed ({signal.Signals(-code).name})"
        lines = (self.job / _LOG).read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        return f"ended with code {code}: {last[:200]}"


def time_text(caps: Caps) -> str:
    """Return the bound of time for a reader."""
    return f"{caps.seconds:,.10g} s"


def memory_text(caps: Caps) -> str:
    """Return the bound of memory for a reader."""
    return f"{caps.memory_bytes / (1 << 30):.3g} GiB"


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds; 0 where that cannot be known."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        pass
    asked = ["ps", "-o", "rss=", "-p", str(pid)]
    try:
        shown = subprocess.run(asked, capture_output=True, text=True, check=False)
        return 1024 * int(shown.stdout.strip() or 0)
    except (OSError, ValueError):
        return 0


def _environment(threads: int) -> dict[str, str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    # Threads that wait by spinning would take the processors from the other strategies.
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_WAIT_POLICY": "passive",
        **dict.fromkeys(_THREADS, str(threads)),
    }


# Inside the process of a strategy.


def main(job: Path) -> None:
    """Run the strategy that a job names, and leave its results in the job's folder."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    order = json.loads((job / _JOB).read_text())
    module, _, function = order["registry"].partition(":")
    try:
        strategy: Strategy = getattr(import_module(module), function)(order["strategy"])
        for needed in strategy.needs:
            imported(needed)
        for tried in try_out(Material.load(job.parent), strategy, order["seed"]):
            _write_tried(job, tried)
    except LeftOutError as error:
        _write_reason(job, str(error))
    except MemoryError:
        _write_reason(job, "ran out of memory")
    except Exception as error:
        # Whatever a library raises becomes the reason of one row; the log keeps the traceback.
        _write_reason(job, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        raise


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _write_reason(job: Path, reason: str) -> None:
    (job / _REASON).write_text(reason)


def _write_tried(job: Path, tried: Tried) -> None:
    folder = job / tried.block.value
    folder.mkdir()
    for name in Decided.layout():
        np.save(folder / f"{name}.npy", getattr(tried.decided, name), allow_pickle=False)
    numbers = {
        "fit_seconds": tried.fit_seconds,
        "score_us": tried.score_us,
        "rows_learnt": tried.rows_learnt,
    }
    # The numbers come last, and at once: where they are, the block is whole.
    (folder / "numbers.part").write_text(json.dumps(numbers))
    (folder / "numbers.part").rename(folder / _NUMBERS)


def _read_tried(job: Path, block: Block) -> Tried | None:
    folder = job / block.value
    if not (folder / _NUMBERS).exists():
        return None
    # Mapped pages outlive the file's name, so the folder may go while the result is in use.
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in Decided.layout()
    }
    return Tried(block=block, decided=Decided(**arrays), **json.loads((folder / _NUMBERS).read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
