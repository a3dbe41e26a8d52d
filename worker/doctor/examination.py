"""The checks in their order. One that cannot be made says why, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from kafka import errors as kafka_errors

from worker.doctor import (
    broker_checks,
    cluster,
    group_checks,
    lineage_checks,
    machine_checks,
    record_checks,
    topic_checks,
)
from worker.doctor.finding import Finding, not_checked, ok, refused
from worker.errors import SettingsError, WorkerError
from worker.kafka_io.client import explain_kafka_error
from worker.settings.loading import config_file, load_settings
from worker.settings.sections import Settings
from worker.settings.variables import refuse_unknown_variables

_MISSING: Final = {
    "settings": "the settings cannot be read",
    "keyed": "entity_key is missing",
    "cluster": "Kafka is not reached",
    "transactions": "the transactions cannot be read",
    "labels": "the labels cannot be read",
}


@dataclass
class _Known:
    """What earlier checks have found; None where they did not.

    Attributes
    ----------
    settings
        The settings, with a key of zeros where nothing but `entity_key` is missing.
    keyed
        The same, if `entity_key` is set.
    cluster
        What Kafka reports.
    transactions, labels
        The newest records.
    why
        For each of these, why it is None.
    """

    settings: Settings | None = None
    keyed: Settings | None = None
    cluster: cluster.Cluster | None = None
    transactions: record_checks.Sample | None = None
    labels: record_checks.Sample | None = None
    why: dict[str, str] = field(default_factory=lambda: dict(_MISSING))


@dataclass(frozen=True)
class _Check:
    """One check.

    Attributes
    ----------
    name
        Name of the check and of its finding.
    look
        Returns the finding.
    needs, uses
        Attributes of `_Known` that `look` takes: first those that must be known, then those that may be None.
    """

    name: str
    look: Callable[..., Finding]
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    def __call__(self, known: _Known) -> Finding:
        missing = next((name for name in self.needs if getattr(known, name) is None), None)
        if missing is not None:
            return not_checked(known.why[missing])
        return _safely(known, lambda: self.look(*(getattr(known, name) for name in self.needs + self.uses)))


_S: Final = ("settings",)
_C: Final = ("cluster",)
_CHECKS: Final = (
    _Check("encryption", broker_checks.encryption, _S),
    _Check("brokers", broker_checks.version, _S + _C),
    _Check("internal topics", broker_checks.internal_topics, _C),
    _Check("time-outs", broker_checks.time_outs, _S + _C),
    _Check("topics", topic_checks.existence, _S + _C),
    _Check("partitions", topic_checks.partitions, _S + _C),
    _Check("leaders", topic_checks.leaders, _C),
    _Check("replication", topic_checks.replication, _C),
    _Check("kept logs", topic_checks.state_retention, _C),
    _Check("kept input", topic_checks.input_retention, _S + _C),
    _Check("cleanup", topic_checks.cleanup, _C),
    _Check("message size", topic_checks.message_size, _C),
    _Check("timestamps", topic_checks.timestamps, _C),
    _Check("permissions", topic_checks.permissions, _S + _C),
    _Check("group", group_checks.group, _S + _C),
    _Check("transaction", group_checks.transaction, _S + _C),
    _Check("lineage", lineage_checks.lineage, ("keyed", "cluster")),
)
_SAMPLE_CHECKS: Final = (
    _Check("partitioner", record_checks.partitioner, ("settings", "transactions", "labels")),
    _Check("transactions", record_checks.decoding_transactions, ("settings", "transactions")),
    _Check("labels", record_checks.decoding_labels, ("settings", "labels")),
    _Check("used labels", record_checks.dead_labels, ("settings", "labels")),
    _Check("event times", record_checks.event_times, ("settings", "transactions")),
    _Check("clock", record_checks.clock, ("settings", "transactions", "labels")),
)
_MACHINE_CHECKS: Final = (
    _Check("client", machine_checks.client),
    _Check("disk", machine_checks.disk, _S, _C),
    _Check("left folders", machine_checks.left_folders, _S),
    _Check("memory", machine_checks.memory, _S, _C),
    _Check("limits", machine_checks.limits, _S, _C),
    _Check("health port", machine_checks.health_port, _S),
    _Check("compiled loops", machine_checks.compiled_loops),
    _Check("java", machine_checks.java),
)


def examine(config: Path | None) -> Iterator[Finding]:
    """Yield the finding of every check, as soon as it is made.

    Parameters
    ----------
    config
        The settings file, as `worker.settings.loading.load_settings` takes it.
    """
    known = _Known()
    yield _read_settings(config, known)
    yield replace(_safely(known, _environment), check="environment")
    yield replace(
        _Check("connection", lambda settings: _reach(known, settings), _S)(known), check="connection"
    )
    for check in _CHECKS:
        yield replace(check(known), check=check.name)
    _take_samples(known)
    for check in _SAMPLE_CHECKS + _MACHINE_CHECKS:
        yield replace(check(known), check=check.name)


def _read_settings(config: Path | None, known: _Known) -> Finding:
    try:
        known.settings = known.keyed = load_settings(config, ignore_unknown_variables=True)
    except SettingsError as error:
        try:
            # Nothing but the secret may be missing: most checks do without it.
            known.settings = load_settings(config, keyless=True, ignore_unknown_variables=True)
        except SettingsError:
            known.why = dict.fromkeys(_MISSING, _MISSING["settings"])
        return replace(refused(error), check="settings")
    return replace(ok(f"from {config_file(config) or 'the environment'}"), check="settings")


def _environment() -> Finding:
    refuse_unknown_variables()
    return ok("every FRAUD_WORKER__ variable names a setting")


def _reach(known: _Known, settings: Settings) -> Finding:
    known.cluster = cluster.reach(settings)
    return ok(
        f"Kafka at kafka.bootstrap = {settings.kafka.bootstrap!r} answers ({settings.kafka.security_protocol})"
    )


def _take_samples(known: _Known) -> None:
    """Read the newest records of the input topics that exist."""
    for role in ("transactions", "labels"):
        if known.settings is None or known.cluster is None:
            continue
        if role not in known.cluster.topics:
            known.why[role] = topic_checks.absence(getattr(known.settings.topics, role), known.cluster)
            continue
        try:
            sample = record_checks.take_sample(known.settings, known.cluster.topics[role].name)
        except WorkerError as error:
            known.why[role] = str(error)
        else:
            setattr(known, role, sample)


def _safely(known: _Known, look: Callable[[], Finding]) -> Finding:
    """Return the finding of a check, or its error as a finding, so that the other checks go on."""
    try:
        return look()
    except WorkerError as error:
        return refused(error)
    except Exception as error:  # noqa: BLE001 - an unexpected answer fails one check, not all
        if isinstance(error, kafka_errors.KafkaError) and known.settings is not None:
            return refused(explain_kafka_error(error, known.settings))
        return not_checked(f"the check itself failed ({type(error).__name__}: {error})")
