"""`make image-check`: builds deploy/Dockerfile without an engine, and runs a worker in the result.

`tests.tools.dockerfile` runs every instruction, in folders below build/image. The base is a Debian of the same release
as the image's, with Debian's own Python instead of the official image's. The worker then runs as in a locked-down
container: as user 10001, without capabilities, with a read-only root except for a tmpfs at /tmp and its state, and with
no environment except that of the Dockerfile and its settings. The broker is a real one.

Only an engine could check the base image, layers, signals to process 1, limits and networks.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.processes import to_toml
from tests.support.repository import ROOT
from tests.support.site import ENTITY_KEY, Site
from tests.support.traffic import records_of, small_traffic
from tests.support.waiting import DECIDE_S, wait_for
from tests.tools.dockerfile import Build, Stage, debian, isolated
from worker.broker.embedded import EmbeddedKafka, free_port

FOLDER: Final = ROOT / "build" / "image"
COMPILED: Final = "/opt/fraud-worker/compiled"
CONFIG: Final = "/etc/fraud-worker.toml"
NEEDED: Final = ("debootstrap", "setpriv", "unshare")


class Container:
    """A worker in the image's files."""

    def __init__(self, image: Stage, site: Site, folder: Path, *, warm: bool = True) -> None:
        self._image, self._folder = image, folder
        self.port = free_port()
        state = folder / "state"
        state.mkdir(parents=True)
        os.chown(state, *map(int, image.user.split(":")))
        image.path(CONFIG).touch()
        config = folder / "worker.toml"
        # The image's own environment sets what is left out here; the key comes by the environment too.
        config.write_text(re.sub(r"(?m)^(entity_key|state_dir|host|port) = .*\n", "", to_toml(site.settings)))
        self._mounts = [
            'mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs "$ROOT/tmp"',
            f'mount --bind {state} "$ROOT{image.env["FRAUD_WORKER__WORKER__STATE_DIR"]}"',
            f'mount --bind -o ro {config} "$ROOT{CONFIG}"',
        ]
        if not warm:
            self._mounts.append(f'mount -t tmpfs tmpfs "$ROOT{COMPILED}"')

    def command(self, *arguments: str) -> list[str]:
        """Return what an engine runs, given the arguments after the image's name."""
        return self._inside([*self._image.entrypoint, *arguments])

    def _inside(self, command: list[str]) -> list[str]:
        env = self._image.env | {
            "FRAUD_WORKER_CONFIG": CONFIG,
            "FRAUD_WORKER__ENTITY_KEY": ENTITY_KEY,
            "FRAUD_WORKER__HEALTH__PORT": str(self.port),
        }
        return isolated(self._image, command, env, mounts=self._mounts, read_only=True)

    def healthy(self) -> bool:
        """Return whether the image's health check passes."""
        return _code(self._inside(self._image.healthcheck)) == 0

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the image's own command; stop it at the end as an engine does."""
        with (self._folder / "log").open("wb") as out:
            process = subprocess.Popen(self.command(*self._image.command), stdout=out, stderr=out)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait(30)
        assert code == 0, f"ended with code {code}:\n{self.log}"

    def ready(self) -> bool:
        """Return whether it decides."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def log(self) -> str:
        """All that it has logged."""
        return (self._folder / "log").read_text()


def main() -> int:
    """Check the image, and print the findings."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        print(f"needs root and {', '.join(NEEDED)} (Debian: debootstrap, util-linux)", file=sys.stderr)
        return 1
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    ignore = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    suite = re.findall(r"(?m)^FROM python:\S+-slim-(\w+)", dockerfile)[-1]
    base = debian(suite, FOLDER / suite)
    started_s = time.monotonic()
    image = Build(ROOT, ignore, base, FOLDER / "stages").run(dockerfile)
    print(f"built in {time.monotonic() - started_s:.0f} s upon Debian {suite}'s own Python")
    for name in ("/opt/fraud-worker", COMPILED):
        print(f"{name}: {_size(image.path(name)) >> 20} MiB")
    with EmbeddedKafka() as broker, tempfile.TemporaryDirectory(prefix="fraud-worker-image-") as folder:
        for warm in (True, False):
            (Path(folder) / str(warm)).mkdir()
            _try(image, broker.bootstrap, Path(folder) / str(warm), warm=warm)
    return 0


def _try(image: Stage, bootstrap: str, folder: Path, *, warm: bool) -> None:
    site = Site(bootstrap, folder, partitions=None)
    container = Container(image, site, folder, warm=warm)
    _run(container.command("topics", "create", "--partitions", "4", "--retention-days", "-1"))
    site.partitions = 4
    started_s = time.monotonic()
    with container.running() as process:
        wait_for(container.ready, DECIDE_S, lambda: container.log)
        ready_s = time.monotonic() - started_s
        site.feed(records_of(small_traffic()))
        site.wait_until_decided()
        decided_s = time.monotonic() - started_s
        assert container.healthy(), "the health check fails"
        cache = Path(f"/proc/{process.pid}/root", image.env["NUMBA_CACHE_DIR"].lstrip("/"))
        compiled = _loops(cache) - (_loops(image.path(COMPILED)) if warm else set())
    site.assert_everything_once()
    print(
        f"{'with' if warm else 'without'} the compiled loops: ready after {ready_s:.1f} s, "
        f"{len(site.fed.transaction_ids):,} transactions decided once after {decided_s:.1f} s, "
        f"{len(compiled)} loops compiled; healthy, and ended with 0 on SIGTERM"
    )
    assert not (warm and compiled), f"compiled again: {sorted(compiled)}"


def _loops(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.nbc")}


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def _code(command: list[str]) -> int:
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
