"""Reaches Kafka: our settings as kafka-python's arguments, and its errors as ours.

kafka-python writes the reason of a failed connection only to its own log and raises a bare time-out.
`wait_for_brokers` reads that log, so that a wrong password does not look like an absent broker.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from kafka import errors as kafka_errors
from kafka.coordinator.assignors.range import RangePartitionAssignor

from worker.errors import (
    CorruptError,
    FencedError,
    IncompatibleError,
    SettingsError,
    UnreachableError,
    WorkerError,
)
from worker.kafka_io.admin import AdminClient
from worker.settings.sections import KafkaSettings, Settings

log = logging.getLogger(__name__)

ATTEMPT_S: Final = 2.0
REMINDER_S: Final = 10.0

_REFUSED: Final = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
FENCED: Final = (
    kafka_errors.ProducerFencedError,
    kafka_errors.InvalidProducerEpochError,
    kafka_errors.InvalidProducerIdMappingError,
    kafka_errors.FencedInstanceIdError,
    kafka_errors.CommitFailedError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.RebalanceInProgressError,
)
"""Another process has the transactional id, the static member id or the partitions."""
_NO_TOPIC: Final = (
    kafka_errors.UnknownTopicOrPartitionError,
    kafka_errors.UnknownTopicIdError,
    kafka_errors.InvalidTopicError,
)
_NO_PLACE: Final = (kafka_errors.NoOffsetForPartitionError, kafka_errors.OffsetOutOfRangeError)
# InvalidReceiveError: kafka-python reads the bytes of a TLS listener as an answer of impossible length.
_NO_ANSWER: Final = (kafka_errors.RetriableError, kafka_errors.InvalidReceiveError, OSError)

_TLS: Final = (
    "{where} and this worker do not agree on TLS ({reason}): check kafka.ssl_ca_file = {kafka.ssl_ca_file}, which "
    "must have signed the broker's certificate; kafka.ssl_cert_file = {kafka.ssl_cert_file} and "
    "kafka.ssl_key_file = {kafka.ssl_key_file}, if the broker wants a certificate; and that the broker listens with "
    "kafka.security_protocol = {kafka.security_protocol!r}"
)
_LOG_DELETED: Final = (
    "records of a log of the workers were deleted while they were read ({reason}): what they held is nowhere else. See "
    "that nothing deletes records of topics.model_log and topics.decisions (retention.ms = -1), and start the worker "
    "again: it says what is lost"
)
_HUNG_UP: Final = (
    ". After wrong credentials a broker may close the connection without an answer: check kafka.sasl_mechanism = "
    "{kafka.sasl_mechanism!r}, kafka.sasl_username = {kafka.sasl_username!r} and kafka.sasl_password too"
)
# The first entry that fits counts: some of kafka-python's errors are both retriable and something worse.
_EXPLANATIONS: Final[tuple[tuple[tuple[type[Exception], ...], type[WorkerError], str], ...]] = (
    (
        (kafka_errors.UnsupportedCodecError,),
        CorruptError,
        "{where} sent records of a codec that is not installed ({reason}): install the worker with its requirements",
    ),
    (
        (kafka_errors.CorruptRecordError,),
        CorruptError,
        "{where} sent records that do not read ({reason}): see the brokers' logs and disks; `fraud-worker skip` goes "
        "on behind such records of an input topic",
    ),
    (
        _REFUSED,
        UnreachableError,
        "{where} refuses the credentials ({reason}): check kafka.security_protocol = "
        "{kafka.security_protocol!r}, kafka.sasl_mechanism = {kafka.sasl_mechanism!r}, "
        "kafka.sasl_username = {kafka.sasl_username!r} and kafka.sasl_password",
    ),
    (
        (kafka_errors.AuthorizationError,),
        UnreachableError,
        "{where} forbids it ({reason}): permit it to kafka.sasl_username = {kafka.sasl_username!r}",
    ),
    (
        _NO_TOPIC,
        UnreachableError,
        "{where} has no such topic ({reason}): run `fraud-worker topics create`, or correct [topics]",
    ),
    (
        _NO_PLACE,
        IncompatibleError,
        "group kafka.group = {kafka.group!r} has no place to read from ({reason}): a first start needs "
        "kafka.start_from = 'earliest' or 'latest'; later it means that records were deleted before they were read, or "
        "that offsets expired. `fraud-worker doctor` says which; `fraud-worker skip` goes on behind what was deleted, "
        "and sets lost offsets to where the journal ends",
    ),
    (
        (kafka_errors.LogTruncationError,),
        IncompatibleError,
        "{where} lost records after they were read ({reason}): a broker that had not all of them became the leader "
        "(unclean.leader.election.enable = true). Transactions and labels that were read are decided and learnt; "
        "what topics.model_log and topics.decisions have lost is nowhere else, and the next start says so",
    ),
    (
        (kafka_errors.InvalidSessionTimeoutError,),
        SettingsError,
        "kafka.session_timeout_ms = {kafka.session_timeout_ms} is not within what {where} allows ({reason}): choose "
        "one between its group.min.session.timeout.ms and group.max.session.timeout.ms",
    ),
    (
        (kafka_errors.InvalidTransactionTimeoutError,),
        SettingsError,
        "kafka.transaction_timeout_ms = {kafka.transaction_timeout_ms} is more than {where} allows ({reason}): choose "
        "one of at most its transaction.max.timeout.ms",
    ),
    (
        FENCED,
        FencedError,
        "another process works under worker.id = {worker.id!r} ({reason}): stop one of them, or give it an "
        "id of its own",
    ),
    (
        _NO_ANSWER,
        UnreachableError,
        "{where} does not answer ({reason}): start it or correct the address, and check that it listens with "
        "kafka.security_protocol = {kafka.security_protocol!r} and that the addresses it hands out "
        "(advertised.listeners) can be reached from here",
    ),
    ((Exception,), WorkerError, "{where} answers {reason}"),
)


def admin_config(settings: Settings) -> dict[str, Any]:
    """Return keyword arguments of `kafka.KafkaAdminClient`."""
    kafka = settings.kafka
    return {
        "bootstrap_servers": [address.strip() for address in kafka.bootstrap.split(",")],
        "client_id": settings.worker.id,
        "reconnect_backoff_max_ms": 1_000,
        "security_protocol": kafka.security_protocol,
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": kafka.sasl_password and kafka.sasl_password.get_secret_value(),
        **_certificates(kafka),
    }


def consumer_config(settings: Settings, *, group: bool) -> dict[str, Any]:
    """Return keyword arguments of `kafka.KafkaConsumer`: committed records only, positions set and committed by us.

    Parameters
    ----------
    settings
        Their `kafka` and `worker` sections are used.
    group
        Whether to join `kafka.group` as the static member `worker.id`; otherwise the caller assigns partitions.
    """
    config = admin_config(settings) | {
        "isolation_level": "read_committed",
        # Positions are ours: a lost offset must end the worker, and offsets go into the transaction of their results.
        "auto_offset_reset": "none",
        "enable_auto_commit": False,
        "allow_auto_create_topics": False,
        "max_partition_fetch_bytes": 8 << 20,
        # kafka-python 3.0.12 never reads on in a partition that was paused with part of a fetch undelivered: so a poll
        # takes all that was fetched.
        "max_poll_records": 1 << 30,
        # Partitions resumed after a fetch was sent wait for its answer; only an answer shows where an empty one ends.
        "fetch_max_wait_ms": 50,
    }
    # Fetches of the input are small, because rows that wait for the clock stay in memory.
    return config | {"max_partition_fetch_bytes": 4 << 20} | _membership(settings) if group else config


def transactional_id_of(settings: Settings, name: str | None = None) -> str:
    """Return the transactional id of the worker, or of a command of that name: that of a worker would be fenced.

    The group is part of it: transactional ids share the whole cluster, static members only their group.
    """
    return f"{settings.kafka.group}.{name or settings.worker.id}"


def producer_config(settings: Settings, transactional_id: str | None) -> dict[str, Any]:
    """Return keyword arguments of `kafka.KafkaProducer`.

    Parameters
    ----------
    settings
        Their `kafka` and `worker` sections are used.
    transactional_id
        None for a producer that is only idempotent, as for a replay.
    """
    config = admin_config(settings) | {
        "acks": "all",
        "compression_type": "lz4",
        "batch_size": 512 << 10,  # well below the broker's 1 MiB
        "linger_ms": 5,
        "max_request_size": 8 << 20,
        "allow_auto_create_topics": False,
    }
    if transactional_id is None:
        return config
    return config | {
        "transactional_id": transactional_id,
        "transaction_timeout_ms": settings.kafka.transaction_timeout_ms,
        # A broker refuses a transaction right after another's commit once, and the client waits out this time: the
        # default of 100 ms would cost 200 ms a commit.
        "retry_backoff_ms": 5,
    }


def wait_for_brokers(settings: Settings, timeout_s: float, alive: Callable[[], None] = lambda: None) -> None:
    """Return once a broker answers; log meanwhile that the worker waits.

    Parameters
    ----------
    settings
        Name the brokers.
    timeout_s
        How long to wait.
    alive
        Called after every attempt; an error that it raises ends the wait.

    Raises
    ------
    UnreachableError
        No broker answered in time, or one refused credentials or certificates (raised at once).
    SettingsError
        A certificate file in `[kafka]` is missing or unusable.
    """
    deadline = time.monotonic() + timeout_s
    reminded = float("-inf")
    while (failure := _attempt(settings, deadline - time.monotonic())) is not None:
        alive()
        if isinstance(failure, _REFUSED) or _refuses_tls(failure) or time.monotonic() >= deadline:
            raise explain_kafka_error(failure, settings) from failure
        if time.monotonic() >= reminded + REMINDER_S:
            reminded = time.monotonic()
            log.warning("waiting for Kafka at %s: %s", settings.kafka.bootstrap, _reason(failure))


@contextmanager
def kafka_errors_explained(settings: Settings) -> Iterator[None]:
    """Raise kafka-python's errors as our own."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise explain_kafka_error(error, settings) from error


def explain_kafka_error(error: Exception, settings: Settings) -> WorkerError:
    """Return our error for one of kafka-python's; its message names what to do."""
    kind, text = next((kind, text) for errors, kind, text in _EXPLANATIONS if isinstance(error, errors))
    if _is_about_tls(error):
        text = _TLS
    elif _closed_silently(error) and settings.kafka.security_protocol.startswith("SASL"):
        text += _HUNG_UP
    elif isinstance(error, _NO_PLACE) and _topics_of(error) & {
        settings.topics.model_log,
        settings.topics.decisions,
    }:
        text = _LOG_DELETED
    where = f"Kafka at kafka.bootstrap = {settings.kafka.bootstrap!r}"
    return kind(text.format(where=where, reason=_reason(error), kafka=settings.kafka, worker=settings.worker))


def _is_about_tls(error: Exception) -> bool:
    """Return whether a connection failed in the TLS handshake."""
    # kafka-python raises one class for every failed connection, with the message of OpenSSL or of Python's ssl in it.
    return any(words in str(error) for words in ("[SSL", "TLS/SSL"))


def _topics_of(error: Exception) -> set[str]:
    """Return the topics of the partitions that an error of kafka-python names in its first argument."""
    partitions = next(iter(error.args), ())
    return {it.topic for it in partitions} if isinstance(partitions, dict | set | list) else set()


def _refuses_tls(error: Exception) -> bool:
    """Return whether a TLS handshake failed in a way that waiting cannot change."""
    # A handshake that was cut off may only mean that the broker is not there yet.
    return _is_about_tls(error) and "EOF" not in str(error)


def _closed_silently(error: Exception) -> bool:
    return isinstance(error, kafka_errors.KafkaConnectionError) and "disconnected" in str(error)


def _attempt(settings: Settings, left_s: float) -> Exception | None:
    limit_ms = int(1000 * max(0.1, min(left_s, ATTEMPT_S)))
    with _logged_errors() as reasons:
        try:
            AdminClient(**admin_config(settings), bootstrap_timeout_ms=limit_ms).close()
        except kafka_errors.KafkaError as error:
            return _likeliest(reasons) or error
    return None


def _likeliest(reasons: list[Exception]) -> Exception | None:
    """Return a refusal if there is one, else the last failure: after a refusal brokers drop further attempts unread."""
    refusals = [it for it in reasons if isinstance(it, _REFUSED)]
    others = [it for it in reasons if not isinstance(it, kafka_errors.KafkaTimeoutError)]
    return next(iter(refusals + others[-1:]), None)


class _ErrorCollector(logging.Handler):
    """Collects the exceptions that log records carry."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        args = record.args if isinstance(record.args, tuple) else ()
        self.errors += [it for it in args if isinstance(it, Exception)]


@contextmanager
def _logged_errors() -> Iterator[list[Exception]]:
    """Collect the errors that kafka-python logs, instead of printing them."""
    logger, collector = logging.getLogger("kafka"), _ErrorCollector()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(collector)
    try:
        yield collector.errors
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)
        logger.propagate = propagate


def _membership(settings: Settings) -> dict[str, Any]:
    session_ms = settings.kafka.session_timeout_ms
    return {
        "group_id": settings.kafka.group,
        "group_instance_id": settings.worker.id,
        "session_timeout_ms": session_ms,
        "heartbeat_interval_ms": min(3_000, session_ms // 3),
        # A restore happens between two polls: a member thrown out meanwhile would begin it again, for ever. A loop that
        # stands still shows at /healthz.
        "max_poll_interval_ms": round(settings.kafka.max_poll_interval_s * 1000),
        # The only assignor that gives partition p of both topics to the same member.
        "partition_assignment_strategy": [RangePartitionAssignor],
    }


def _certificates(kafka: KafkaSettings) -> dict[str, str | None]:
    """Return the certificate files as kafka-python's arguments, after loading each of them."""
    # kafka-python would only log a file that it cannot load, as one of many failed connections.
    context = ssl.create_default_context()
    if kafka.ssl_ca_file is not None:
        ca = str(kafka.ssl_ca_file)
        _try_file("ssl_ca_file", ca, "a certificate", lambda: context.load_verify_locations(ca))
    if kafka.ssl_cert_file is not None:
        cert, key = str(kafka.ssl_cert_file), str(kafka.ssl_key_file or kafka.ssl_cert_file)
        what = f"a certificate and, with kafka.ssl_key_file = {key!r}, its key without a password"
        _try_file("ssl_cert_file", cert, what, lambda: context.load_cert_chain(cert, key, password=""))
    files = {
        "ssl_cafile": kafka.ssl_ca_file,
        "ssl_certfile": kafka.ssl_cert_file,
        "ssl_keyfile": kafka.ssl_key_file,
    }
    return {argument: str(path) if path else None for argument, path in files.items()}


def _try_file(name: str, path: str, what: str, load: Callable[[], None]) -> None:
    try:
        load()
    except FileNotFoundError:
        raise SettingsError(f"kafka.{name} = {path!r}: there is no such file; name the right one") from None
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(
            f"kafka.{name} = {path!r} must hold {what} ({error}); name the right file"
        ) from None


def _reason(error: Exception) -> str:
    name = type(error).__name__
    # kafka-python repeats the class name in some messages.
    message = str(next(iter(error.args), None) or "").removeprefix(f"{name}: ")
    return f"{name}: {message}" if message else name
