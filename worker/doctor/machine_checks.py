"""Checks of the machine: room on disk and in memory, the port, the cache of compiled loops, limits."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import socket
from pathlib import Path
from typing import Final

import kafka

import worker
from models import aggregates
from models.features import FeatureLayout
from models.tables import table_bytes
from worker.broker.jars import find_java
from worker.doctor.cluster import Cluster
from worker.doctor.finding import Finding, failed, ok, warning
from worker.errors import BrokerError, SettingsError
from worker.kafka_io.consumer import require_seam
from worker.local_http import ask
from worker.parameters import feature_spec
from worker.partition.pending import SEGMENT_ROWS, bytes_per_decision
from worker.settings.sections import Settings

_GIB: Final = 1 << 30
_LEAST_FREE_BYTES: Final = _GIB
_MEMORY_FILES: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_OTHER_FILES: Final = 200
"""Open files beside those of waiting decisions: connections, libraries, logs."""
_TIMEOUT_S: Final = 2.0


def client() -> Finding:
    """The installed kafka-python is one that we can read whole batches with."""
    require_seam()
    return ok(f"kafka-python {kafka.__version__}, Python {platform.python_version()}, {platform.machine()}")


def disk(settings: Settings, cluster: Cluster | None) -> Finding:
    """The waiting decisions have a folder, and room in it."""
    folder = settings.worker.state_dir
    there = _nearest(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = f"worker.state_dir = {str(folder)!r} cannot be written"
        return failed(found, "name a folder on a local disk that the worker may write", SettingsError)
    free = shutil.disk_usage(there).free
    each = _bytes_per_decision(settings)
    told = f"{_size(free)} free at worker.state_dir = {str(folder)!r}; a million decisions take {_size(each * 1e6)}"
    waiting = _waiting(settings, cluster)
    if waiting is not None:
        told += f", and {_kept_days(settings):g} days of the last day's traffic {_size(waiting * each)}"
    if free < max(_LEAST_FREE_BYTES, (waiting or 0) * each):
        return warning(
            told, "give it a larger disk, or lower labels.horizon_days or labels.keep_after_horizon_days"
        )
    return ok(told)


def _bytes_per_decision(settings: Settings) -> int:
    spec = feature_spec(settings)
    return bytes_per_decision(len(spec.entities), len(FeatureLayout.from_spec(spec).names))


def _kept_days(settings: Settings) -> float:
    return settings.labels.horizon_days + settings.labels.keep_after_horizon_days


def _waiting(settings: Settings, cluster: Cluster | None) -> float | None:
    """How many decisions wait at the last day's rate; None if nobody can tell."""
    per_day = cluster and cluster.per_day
    return per_day * _kept_days(settings) if per_day else None


def memory(settings: Settings, cluster: Cluster | None) -> Finding:
    """What may be remembered of cards and entities fits into memory."""
    topic = cluster.topics.get("transactions") if cluster else None
    partitions = topic.partitions if topic else 1
    of_cards = partitions * table_bytes(settings.features.max_cards, aggregates.CARD_WIDTH)
    shared = table_bytes(settings.features.max_entities, aggregates.ENTITY_WIDTH)
    shared += table_bytes(settings.features.max_entities, aggregates.CARD_FRAUDS_WIDTH)
    limit = _memory_bytes()
    found = (
        f"{_size(limit)} here; full tables take {_size(of_cards + shared)}: features.max_cards = "
        f"{settings.features.max_cards:,} in {partitions} partition(s), features.max_entities = "
        f"{settings.features.max_entities:,}"
    )
    if of_cards + shared > limit:
        return warning(
            found, "lower them to what you have, or give the worker more memory; share out partitions"
        )
    return ok(found)


def _memory_bytes() -> int:
    """What the container may use, or the machine has."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _MEMORY_FILES:
        path = Path(name)
        if path.is_file() and (text := path.read_text(encoding="ascii").strip()).isdecimal():
            limits.append(int(text))
    return min(limits)


def limits(settings: Settings, cluster: Cluster | None) -> Finding:
    """Segments of waiting decisions, one file and one mapping each, stay below the limits of a process."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    maps = _max_map_count()
    told = f"{files:,} open files" + (f", {maps:,} mappings" if maps else "")
    waiting = _waiting(settings, cluster)
    if waiting is None:
        return ok(f"{told}; {SEGMENT_ROWS:,} waiting decisions take one of each")
    needed = _OTHER_FILES + round(waiting / SEGMENT_ROWS)
    if needed > min(files, maps or files):
        fix = "raise the limit of open files (ulimit -n, LimitNOFILE) and vm.max_map_count"
        return warning(f"{told}; at the last day's rate some {needed:,} are needed", fix)
    return ok(f"{told}; at the last day's rate some {needed:,} are needed")


def _max_map_count() -> int | None:
    path = Path("/proc/sys/vm/max_map_count")
    return int(path.read_text(encoding="ascii")) if path.is_file() else None


def health_port(settings: Settings) -> Finding:
    """The port is free, or a worker answers there."""
    host, port = settings.health.host, settings.health.port
    if port == 0:
        return ok("health.port = 0: a free one is taken at each start")
    where = f"health.port = {port} at {host}"
    answer = _readyz("127.0.0.1" if host in {"0.0.0.0", "::", ""} else host, port)
    if answer is not None:
        return ok(f"{where}: a worker answers: {answer}")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return ok(f"{where} is free")
    except OSError as error:
        fix = "set another port, or 0 for a free one; health.host must be an address of this machine"
        return failed(f"{where} cannot be listened on: {error.strerror or error}", fix, SettingsError)


def _readyz(host: str, port: int) -> str | None:
    """What a worker of ours says there; None if there is none."""
    answer = ask(host, port, "/readyz", _TIMEOUT_S)
    if answer is None or answer.server != "fraud-worker":
        return None
    body = json.loads(answer.text)
    return ": ".join(str(body[name]) for name in ("status", "reason") if body.get(name))


def compiled_loops() -> Finding:
    """What numba compiles can be kept for the next start."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    folders = (
        [Path(named)] if named else [Path(worker.__file__).parent / "__pycache__", Path.home() / ".cache"]
    )
    folder = next((it for it in folders if os.access(_nearest(it), os.W_OK | os.X_OK)), None)
    if folder is None:
        found = f"compiled loops cannot be kept in {' or '.join(map(str, folders))}"
        return failed(found, "set NUMBA_CACHE_DIR to a folder that the worker may write", SettingsError)
    where = f"NUMBA_CACHE_DIR = {named}" if named else str(folder)
    kept = len(list(folder.rglob("*.nbi"))) if named and folder.is_dir() else None
    return ok(f"kept in {where}" + ("; empty yet, so the first start compiles" if kept == 0 else ""))


def java() -> Finding:
    """Whether `fraud-worker kafka` and the demo can run; a worker needs none of it."""
    try:
        found = find_java()
    except BrokerError as error:
        return ok(f"not needed by a worker. {error}")
    maven = "" if shutil.which("mvn") else "; without Maven, unless Kafka's jars have been fetched before"
    return ok(f"{found}: the demo and `fraud-worker kafka` can run{maven}")


def _nearest(path: Path) -> Path:
    """The path itself, or what there is of the way to it."""
    whole = path.absolute()
    return next(it for it in (whole, *whole.parents) if it.exists())


def _size(count: float) -> str:
    return f"{count / _GIB:.3g} GiB"
