"""Checks of the newest transactions and labels: partitions, field names, time formats, clocks."""

from __future__ import annotations

import difflib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import orjson
from kafka.structs import TopicPartition

from worker.doctor.finding import Finding, Verdict, failed, not_checked, ok, warning
from worker.doctor.label_classes import dead_classes, lost_classes
from worker.errors import FuseError, IncompatibleError, SettingsError
from worker.kafka_io.consumer import columns_of
from worker.kafka_io.partitioner import Partitioner, partitions_of_keys
from worker.kafka_io.record_batches import RecordColumns
from worker.kafka_io.topic_reader import open_topic
from worker.live.guard import MISMATCHES_TOLERATED
from worker.moments import moment
from worker.settings.fields import LabelFields, TimeFormat, TransactionFields
from worker.settings.sections import Settings
from worker.view.foreign_text import shortened
from worker.wire.decoder import BadRecord, Decoder

SAMPLED: Final = 100
_NAMES_SHOWN: Final = 12
_NAME_CHARACTERS: Final = 40
_MILLISECONDS_FROM: Final = 1e11
"""A number from here on is milliseconds: in ms it is the year 1973, in s the year 5138."""
_REQUIRED: Final = ("transaction_id", "card_id", "event_time", "amount", "label_time")
_ONE_OF: Final = ("label", "outcome")
_NUMBERS: Final = ("amount", "numeric")

FieldSettings = TransactionFields | LabelFields
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """The newest records of a topic.

    Attributes
    ----------
    topic
        Name of the topic.
    partitions
        Number of its partitions.
    columns
        The records, those of one partition together.
    messages
        The records that are JSON objects, parsed.
    """

    topic: str
    partitions: int
    columns: tuple[RecordColumns, ...]
    messages: tuple[Message, ...]

    def __len__(self) -> int:
        return sum(map(len, self.columns))


def take_sample(settings: Settings, topic: str) -> Sample:
    """Read the newest records of a topic, at most `SAMPLED`.

    Raises
    ------
    WorkerError
        The topic cannot be read.
    """
    with open_topic(settings, topic) as reader:
        return sample_of(topic, len(reader.end), reader.newest(SAMPLED))


def sample_of(topic: str, partitions: int, records: Sequence[Any]) -> Sample:
    """Return a sample of kafka-python's records."""
    by_partition = groupby(sorted(records, key=lambda it: (it.partition, it.offset)), lambda it: it.partition)
    columns = [columns_of(TopicPartition(topic, partition), list(group)) for partition, group in by_partition]
    messages = [message for record in records if isinstance(message := _json(record.value), dict)]
    return Sample(topic, partitions, tuple(columns), tuple(messages))


def partitioner(settings: Settings, transactions: Sample, labels: Sample) -> Finding:
    """Check that keys are in the partitions that `kafka.partitioner` chooses, in both topics."""
    samples = [sample for sample in (transactions, labels) if len(sample)]
    if not samples:
        return not_checked("both topics are empty")
    if all(sample.partitions == 1 for sample in samples):
        return ok("one partition: any partitioner fits")
    set_to = settings.kafka.partitioner
    other: Partitioner = "crc32" if set_to == "murmur2" else "murmur2"
    keyed = {sample.topic: _misplaced(sample, set_to)[1] for sample in samples}
    wrong = {sample.topic: _misplaced(sample, set_to)[0] for sample in samples}
    counts = ", ".join(f"{wrong[topic]} of {keyed[topic]} keys in {topic}" for topic in keyed)
    if not any(wrong.values()):
        return ok(
            f"kafka.partitioner = {set_to!r}: all of {sum(keyed.values())} sampled keys are where it puts them"
        )
    found = f"kafka.partitioner = {set_to!r}: {counts} are in another partition"
    if any(wrong[topic] > MISMATCHES_TOLERATED * keyed[topic] for topic in keyed):
        return failed(found, _partitioner_fix(samples, other), IncompatibleError)
    return warning(
        found,
        "find the producer that chooses partitions by itself: labels of its cards never find a decision",
    )


def _partitioner_fix(samples: Sequence[Sample], other: Partitioner) -> str:
    fitting = [sample.topic for sample in samples if _misplaced(sample, other)[0] == 0]
    if len(fitting) == len(samples):
        return f"set kafka.partitioner = {other!r}: all sampled keys are where it puts them"
    which = f" ({', '.join(fitting)} by {other!r})" if fitting else ""
    return f"make all producers use the card as key, and one partitioner for both topics{which}"


def _misplaced(sample: Sample, by: Partitioner) -> tuple[int, int]:
    """Return how many keys are in another partition, and how many keys there are, null keys aside."""
    wrong = keyed = 0
    for columns in sample.columns:
        expected = partitions_of_keys(columns, sample.partitions, by)
        wrong += int(np.count_nonzero((expected >= 0) & (expected != columns.partition)))
        keyed += int(np.count_nonzero(expected >= 0))
    return wrong, keyed


def decoding_transactions(settings: Settings, transactions: Sample) -> Finding:
    """Check that transactions decode under the names and formats of `[transaction]`."""
    bad = [it for columns in transactions.columns for it in Decoder(settings).transactions(columns)[1]]
    return _decoding("transaction", settings.transaction, settings, transactions, bad)


def decoding_labels(settings: Settings, labels: Sample) -> Finding:
    """Check that labels decode under the names and formats of `[label]`."""
    bad = [it for columns in labels.columns for it in Decoder(settings).labels(columns)[1]]
    finding = _decoding("label", settings.label, settings, labels, bad)
    # Most labels may be good while all frauds of one source are lost.
    classes = list(lost_classes(settings.label, labels.columns, {(it.partition, it.offset) for it in bad}))
    if not classes or finding.status is Verdict.FAILED:
        return finding
    texts = [f"all of {it.count} records whose {it.setting} is {it.value!r} are bad" for it in classes]
    error = SettingsError if any(it.unknown for it in classes) else FuseError
    return failed("; ".join([finding.found, *texts]), _joined([it.fix for it in classes]), error)


def dead_labels(settings: Settings, labels: Sample) -> Finding:
    """Check that no class of the newest labels went to the dead letters as a whole."""
    return dead_classes(settings, labels.topic, labels.columns)


def _decoding(
    section: str, fields: FieldSettings, settings: Settings, sample: Sample, bad: Sequence[BadRecord]
) -> Finding:
    if len(sample) == 0:
        return not_checked(f"{sample.topic} is empty")
    count = f"{len(sample) - len(bad)} of {len(sample)} sampled records decode"
    absent = list(_absent(section, fields, sample))
    formats = [*_time_format(section, fields, sample), *_value_formats(fields, sample)]
    fixes = [fix for _, fix in absent] + formats
    they_have = [f"they have: {_listed(_names(sample))}"] if absent else []
    found = "; ".join([count, *_reasons(bad), *(text for text, _ in absent), *they_have])
    if len(bad) > settings.batch.fuse_share * len(sample):
        return failed(found, _joined(fixes) or _PRODUCERS, FuseError)
    if formats:
        # Seconds read as milliseconds decode well, as times of January 1970: the setting is wrong all the same.
        return failed(found, _joined(fixes), SettingsError)
    if bad or absent:
        return warning(found, _joined(fixes) or _PRODUCERS)
    return ok(found)


_PRODUCERS: Final = "correct the producers; `fraud-worker schema export` writes the schemas of the records"


def _reasons(bad: Sequence[BadRecord]) -> Iterator[str]:
    counts = Counter((it.reason, it.detail) for it in bad)
    for (reason, detail), count in counts.most_common(3):
        yield f"{count} {reason} ({shortened(detail, 3 * _NAME_CHARACTERS)})"


def _absent(section: str, fields: FieldSettings, sample: Sample) -> Iterator[tuple[str, str]]:
    """Yield the fields of the settings that no sampled message has, each with what to do."""
    names = _names(sample)
    declared = dict(_declared(fields))
    for name, setting in declared.items():
        if names and name not in names and not _excused(setting, fields, names):
            free = [it for it in names if it not in declared and _may_be(setting, it, sample)]
            likely = _likely(setting, name, free)
            yield (
                f"{section}.{setting} = {name!r}: none of {len(sample.messages)} sampled records has it",
                f"correct {section}.{setting}" + (f": perhaps {likely!r}" if likely else ""),
            )


def _names(sample: Sample) -> Counter[str]:
    return Counter(name for message in sample.messages for name in message)


def _declared(fields: FieldSettings) -> Iterator[tuple[str, str]]:
    """Yield the user's names of fields that should be in some record, and the settings they are set by.

    The optional fields of a label are left out: that no record has them is no mistake.
    """
    for setting in (*_REQUIRED, *_ONE_OF, "currency"):
        name = getattr(fields, setting, None)
        if name is not None and not (setting == "event_time" and isinstance(fields, LabelFields)):
            yield name, setting
    for setting in ("numeric", "categorical", "entities"):
        yield from ((name, setting) for name in getattr(fields, setting, ()))


def _excused(setting: str, fields: FieldSettings, names: Counter[str]) -> bool:
    """Return whether a label does without the field, because it has the other one of the two."""
    return setting in _ONE_OF and any(getattr(fields, other) in names for other in _ONE_OF)


def _may_be(setting: str, name: str, sample: Sample) -> bool:
    """Return whether the values under that name are of the right type."""
    if setting not in _NUMBERS:
        return True
    values = [message[name] for message in sample.messages if name in message]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _likely(setting: str, name: str, free: Sequence[str]) -> str | None:
    """Return the name among the free ones that is most like the name set, or like the name of the setting."""
    for wanted in (name, setting):
        if close := difflib.get_close_matches(wanted, free, n=1):
            return shortened(close[0], _NAME_CHARACTERS)
    # Where one field alone holds numbers, it is the one. Among several, none is likelier than another.
    return shortened(free[0], _NAME_CHARACTERS) if setting in _NUMBERS and len(free) == 1 else None


def _listed(names: Counter[str]) -> str:
    shown = [shortened(name, _NAME_CHARACTERS) for name, _ in names.most_common(_NAMES_SHOWN)]
    return ", ".join(shown) + (", .." if len(names) > len(shown) else "")


def _time_format(section: str, fields: FieldSettings, sample: Sample) -> Iterator[str]:
    """Yield what to do if times are not written in the format of the settings."""
    name = fields.event_time if isinstance(fields, TransactionFields) else fields.label_time
    looks = Counter(look for message in sample.messages if (look := _look(message.get(name))) is not None)
    if looks and (likely := looks.most_common(1)[0][0]) != fields.time_format:
        example = next(message[name] for message in sample.messages if _look(message.get(name)) == likely)
        yield (
            f"set {section}.time_format = {likely!r} instead of {fields.time_format!r}: "
            f"{name} looks like it ({shortened(str(example), _NAME_CHARACTERS)})"
        )


def _value_formats(fields: FieldSettings, sample: Sample) -> Iterator[str]:
    """Yield what to set if amounts are texts, or categories integers, and the settings do not say so."""
    if not isinstance(fields, TransactionFields):
        return
    amounts = [message[fields.amount] for message in sample.messages if fields.amount in message]
    if fields.amount_format == "number" and amounts and all(isinstance(it, str) for it in amounts):
        yield f"set transaction.amount_format = 'text': {fields.amount} is a text in every sampled record"
    texts = (*fields.categorical, *fields.entities)
    whole = [name for name in texts if any(type(message.get(name)) is int for message in sample.messages)]
    if whole and not fields.integer_texts:
        yield f"set transaction.integer_texts = true: {', '.join(whole)} holds integers"


def _look(value: Any) -> TimeFormat | None:
    """Return the format that a time looks like; None if it looks like none."""
    if isinstance(value, str):
        return "iso8601" if not value.isdecimal() else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    return "epoch_ms" if value >= _MILLISECONDS_FROM else "epoch_s"


def _joined(fixes: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(fixes))


def event_times(settings: Settings, transactions: Sample) -> Finding:
    """Check that transactions are not dated after they were written to Kafka."""
    skew_ms = settings.batch.allowed_skew_s * 1000
    decoded = [Decoder(settings).transactions(columns)[0] for columns in transactions.columns]
    # Kafka's -1 says that a record has no timestamp, and some producers write 0.
    ahead = [(it.event_time_ms - it.timestamps_ms)[it.timestamps_ms > 0] for it in decoded if len(it)]
    if not ahead:
        return not_checked(f"no record of {transactions.topic} decodes")
    ahead_ms = np.concatenate(ahead)
    if not ahead_ms.size:
        return not_checked(f"no record of {transactions.topic} carries a timestamp")
    late = int(np.count_nonzero(ahead_ms > skew_ms))
    if late:
        return warning(
            f"{late} of {ahead_ms.size} sampled transactions are dated up to {ahead_ms.max() / 1000:.0f} s after their "
            "Kafka timestamp; a worker dates them at that timestamp plus batch.allowed_skew_s",
            "correct the clocks or time zones of the producers",
        )
    return ok(
        f"at most batch.allowed_skew_s = {settings.batch.allowed_skew_s:g} ahead of their Kafka timestamps"
    )


def clock(settings: Settings, transactions: Sample, labels: Sample) -> Finding:
    """Check that the newest records are not dated in this machine's future."""
    newest = [int(columns.timestamps_ms.max()) for it in (transactions, labels) for columns in it.columns]
    if not newest:
        return not_checked("no record to compare this machine's clock with")
    ahead_s = max(newest) / 1000 - time.time()
    if ahead_s > settings.batch.allowed_skew_s:
        return warning(
            f"the newest record is dated {ahead_s:.0f} s after this machine's clock",
            "synchronise the clocks of this machine, the brokers and the producers",
        )
    return ok(f"the newest record is of {moment(max(newest))}, not after this machine's clock")


def _json(value: bytes | None) -> Any:
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
