"""Checks of the machine: client library, disk, memory, limits, health port, cache of compiled loops, Java."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import kafka

import worker
from models import aggregates, familiarity, places
from models.feature_layout import FeatureLayout
from models.tables import table_bytes
from worker.broker.jars import find_java
from worker.doctor.cluster import Cluster
from worker.doctor.finding import Finding, failed, not_checked, ok, warning
from worker.errors import BrokerError, SettingsError
from worker.kafka_io.consumer import require_seam
from worker.live import state_folder
from worker.local_http import ask
from worker.parameters import feature_spec
from worker.partition.pending import SEGMENT_ROWS, bytes_per_decision
from worker.partition.segment_files import most_mappings, most_open_files
from worker.settings.sections import Settings

_GIB: Final = 1 << 30
_LEAST_FREE_BYTES: Final = _GIB
_MEMORY_FILES: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_OTHER_FILES: Final = 200
"""Open files beside those of waiting decisions: connections, libraries, logs."""
_ANY_ADDRESS: Final = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, never bound
_TIMEOUT_S: Final = 2.0


def client() -> Finding:
    """Check that the installed kafka-python has the private interfaces that read whole batches."""
    require_seam()
    return ok(f"kafka-python {kafka.__version__}, Python {platform.python_version()}, {platform.machine()}")


def disk(settings: Settings, cluster: Cluster | None) -> Finding:
    """Check that the waiting decisions have a folder that can be written, and room in it."""
    folder = settings.worker.state_dir
    # What a worker writes: its own folder may belong to another user than the one that holds all of them.
    existing = _nearest(folder / settings.worker.id)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        found = f"worker.state_dir = {str(folder)!r} cannot be written, at {str(existing)!r}"
        return failed(found, "set a folder on a local disk that the worker may write", SettingsError)
    free = shutil.disk_usage(existing).free
    each = _bytes_per_decision(settings)
    found = f"{_size(free)} free at worker.state_dir = {str(folder)!r}; a million decisions take {_size(each * 1e6)}"
    waiting = _waiting(settings, cluster)
    if waiting is not None:
        found += f", and {_kept_days(settings):g} days of the last day's traffic {_size(waiting * each)}"
    if free < max(_LEAST_FREE_BYTES, (waiting or 0) * each):
        return warning(
            found, "give it a larger disk, or lower labels.horizon_days or labels.keep_after_horizon_days"
        )
    return ok(found)


def left_folders(settings: Settings) -> Finding:
    """Look for folders of other worker ids that no process uses: nobody empties them, and they fill the disk."""
    where = f"worker.state_dir = {str(settings.worker.state_dir)!r}"
    try:
        left = state_folder.left_folders(settings.worker)
    except OSError as error:
        return not_checked(f"{where} cannot be listed ({error.strerror})")
    if not left:
        return ok(f"no other worker id left files below {where}")
    each = [
        f"{it.path} ({_size(it.size_bytes)}, last change {datetime.fromtimestamp(it.changed_s, UTC):%Y-%m-%d %H:%MZ})"
        for it in left
    ]
    return warning(
        f"no process uses {', '.join(each)}: what other worker ids left",
        "each can be deleted once no worker of that id will run again. A worker.id that is set, the same at every "
        "start, leaves none: unset, the id is the name of the host, which a new container does not keep",
    )


def _bytes_per_decision(settings: Settings) -> int:
    spec = feature_spec(settings)
    return bytes_per_decision(len(spec.entities), len(FeatureLayout.from_spec(spec).names))


def _kept_days(settings: Settings) -> float:
    return settings.labels.horizon_days + settings.labels.keep_after_horizon_days


def _waiting(settings: Settings, cluster: Cluster | None) -> float | None:
    """Return how many decisions wait at the last day's rate; None where Kafka does not report that rate."""
    per_day = cluster and cluster.per_day
    return per_day * _kept_days(settings) if per_day else None


def memory(settings: Settings, cluster: Cluster | None) -> Finding:
    """Check that full tables of cards and entities fit into memory."""
    topic = cluster.topics.get("transactions") if cluster else None
    partitions = topic.partitions if topic else 1
    widths = [aggregates.CARD_WIDTH, *([places.WIDTH] if settings.transaction.place else [])]
    cards = sum(table_bytes(settings.features.max_cards, width) for width in widths)
    values = familiarity.most_rows(settings.features.max_cards, len(feature_spec(settings).entities))
    full = partitions * (cards + table_bytes(values, familiarity.WIDTH))
    full += table_bytes(settings.features.max_entities, aggregates.ENTITY_WIDTH)
    full += table_bytes(settings.features.max_entities, aggregates.CARD_FRAUDS_WIDTH)
    limit = memory_bytes()
    found = (
        f"{_size(limit)} here; full tables take {_size(full)}: features.max_cards = "
        f"{settings.features.max_cards:,} in {partitions} partition(s), with {values:,} values that they use, "
        f"features.max_entities = "
        f"{settings.features.max_entities:,}"
    )
    if full > limit:
        return warning(
            found,
            "lower them to the cards and entities that you have, give the worker more memory, or run more workers",
        )
    return ok(found)


def memory_bytes() -> int:
    """Return what the container may use, at most what the machine has."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _MEMORY_FILES:
        path = Path(name)
        if path.is_file() and (text := path.read_text(encoding="ascii").strip()).isdecimal():
            limits.append(int(text))
    return min(limits)


def limits(settings: Settings, cluster: Cluster | None) -> Finding:
    """Check that the segments of waiting decisions, a file and a mapping each, stay below a worker's limits."""
    files, maps = most_open_files(), most_mappings()
    found = f"{files:,} open files" + (f", {maps:,} mappings" if maps else "")
    waiting = _waiting(settings, cluster)
    if waiting is None:
        return ok(f"{found}; {SEGMENT_ROWS:,} waiting decisions take one of each")
    needed = _OTHER_FILES + round(waiting / SEGMENT_ROWS)
    found += f"; at the last day's rate some {needed:,} are needed"
    if needed > min(files, maps or files):
        fix = "raise the hard limit of open files (ulimit -Hn, LimitNOFILE, ulimits of a compose file) and "
        fix += "vm.max_map_count"
        return warning(found, fix)
    return ok(found)


def health_port(settings: Settings) -> Finding:
    """Check that the port is free, or that a worker answers there."""
    host, port = settings.health.host, settings.health.port
    if port == 0:
        return ok("health.port = 0: each start takes a free port")
    where = f"health.port = {port} at {host}"
    answer = _readyz("127.0.0.1" if host in _ANY_ADDRESS else host, port)
    if answer is not None:
        return ok(f"{where}: a worker answers: {answer}")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return ok(f"{where} is free")
    except OSError as error:
        fix = "set another port, or 0 for a free one; health.host must be an address of this machine"
        return failed(f"{where} cannot be listened on: {error.strerror or error}", fix, SettingsError)


def _readyz(host: str, port: int) -> str | None:
    """Return the state that a worker reports there; None where no worker answers."""
    answer = ask(host, port, "/readyz", _TIMEOUT_S)
    if answer is None or answer.server != "fraud-worker":
        return None
    body = json.loads(answer.text)
    return ": ".join(str(body[name]) for name in ("status", "reason") if body.get(name))


def compiled_loops() -> Finding:
    """Check that numba can cache compiled loops, and report whether the cache is filled."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    folders = (
        [Path(named)] if named else [Path(worker.__file__).parent / "__pycache__", Path.home() / ".cache"]
    )
    folder = next((it for it in folders if os.access(_nearest(it), os.W_OK | os.X_OK)), None)
    if folder is None:
        found = f"compiled loops cannot be cached in {' or '.join(map(str, folders))}"
        return failed(found, "set NUMBA_CACHE_DIR to a folder that the worker may write", SettingsError)
    where = f"NUMBA_CACHE_DIR = {named}" if named else str(folder)
    cached = len(list(folder.rglob("*.nbi"))) if named and folder.is_dir() else None
    return ok(f"cached in {where}" + ("; still empty, so the first start compiles" if cached == 0 else ""))


def java() -> Finding:
    """Report whether `fraud-worker kafka` and the demo can run. A worker needs no Java."""
    try:
        found = find_java()
    except BrokerError as error:
        return ok(f"not needed by a worker. {error}")
    maven = "" if shutil.which("mvn") else ", if Kafka's jars have been downloaded before: Maven is missing"
    return ok(f"{found}: the demo and `fraud-worker kafka` can run{maven}")


def _nearest(path: Path) -> Path:
    """Return the path if it exists, else the nearest folder above it that does."""
    whole = path.absolute()
    return next(it for it in (whole, *whole.parents) if it.exists())


def _size(count: float) -> str:
    return f"{count / _GIB:.3g} GiB"
