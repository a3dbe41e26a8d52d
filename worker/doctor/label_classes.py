"""Classes of labels that are lost as a whole: all of one word, or all of one source, while most labels are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from kafka.errors import AuthorizationError

from worker.doctor.finding import Finding, failed, not_checked, ok
from worker.errors import FuseError, SettingsError, UnreachableError, WorkerError
from worker.kafka_io.record_batches import RecordColumns
from worker.kafka_io.topic_reader import open_topic
from worker.settings.fields import LABEL_WORDS, OUTCOME_WORDS, LabelFields
from worker.settings.sections import Settings
from worker.view.foreign_text import shortened
from worker.wire.dead_letters import Wanted, letters
from worker.wire.label_words import REVERSAL, LabelWords

Coordinates = tuple[int, int]
"""Partition and offset of a record."""
_LEAST: Final = 3
"""So many records of one class, all lost, are no accident."""
_CHARACTERS: Final = 40
_DEAD_LETTERS_READ: Final = 1_000


@dataclass(frozen=True, slots=True)
class LostClass:
    """A class of labels of which every sampled record is lost.

    Attributes
    ----------
    setting
        The field of `[label]` by which the records are alike: label, outcome or source.
    value
        What that field says, safe to print.
    count
        How many records.
    unknown
        Whether no setting gives that word a meaning.
    """

    setting: str
    value: str
    count: int
    unknown: bool

    @property
    def fix(self) -> str:
        """What to do."""
        if self.unknown:
            meanings = (
                OUTCOME_WORDS if self.setting == "outcome" else (*LABEL_WORDS, REVERSAL, *OUTCOME_WORDS)
            )
            return f"say in [label.values] what {self.value!r} means: {', '.join(meanings)}"
        return f"look at `fraud-worker dead-letters list`: nothing is learnt from {self.setting} = {self.value!r}"

    @property
    def error(self) -> type[WorkerError]:
        """The error that stands for it."""
        return SettingsError if self.unknown else FuseError


def lost_classes(
    fields: LabelFields, columns: Iterable[RecordColumns], lost: set[Coordinates]
) -> Iterator[LostClass]:
    """Yield the classes of which all records are lost: at least three, but one of an unknown word is enough."""
    words = LabelWords.of(fields)
    known = {"label": words.labels, "outcome": words.outcomes}
    seen, gone = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for one in columns:
        for row in range(len(one)):
            alike = list(_classes(fields, one.value(row)))
            seen.update(alike)
            if (one.partition, int(one.offsets[row])) in lost:
                gone.update(alike)
    for (setting, value), count in gone.items():
        unknown = setting in known and value not in known[setting]
        if count == seen[setting, value] and (unknown or count >= _LEAST):
            yield LostClass(setting, shortened(value, _CHARACTERS), count, unknown)


def _classes(fields: LabelFields, value: bytes | None) -> Iterator[tuple[str, str]]:
    try:
        message: Any = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return
    if isinstance(message, dict):
        for setting in ("label", "outcome", "source"):
            text = message.get(getattr(fields, setting))
            if isinstance(text, str):
                yield setting, text


def dead_classes(settings: Settings, topic: str, columns: tuple[RecordColumns, ...]) -> Finding:
    """Check that no class of the sampled labels went to the dead letters as a whole, such as all frauds of one source.

    Parameters
    ----------
    settings
        Topics and names of fields.
    topic
        The labels topic.
    columns
        The newest labels.
    """
    if not columns:
        return not_checked(f"{topic} is empty")
    try:
        with open_topic(settings, settings.topics.dead_letters) as reader:
            records = reader.newest(_DEAD_LETTERS_READ)
    except UnreachableError as error:
        # A worker writes dead letters and need not read them.
        if isinstance(error.__cause__, AuthorizationError):
            return not_checked(f"this user may not read {settings.topics.dead_letters}")
        raise
    return judge_dead(settings, topic, columns, records)


def judge_dead(
    settings: Settings, topic: str, columns: tuple[RecordColumns, ...], records: Iterable[Any]
) -> Finding:
    """Judge the sampled labels by the dead letters, given as Kafka records."""
    dead = [letter for letter in letters(records, Wanted()) if letter.topic == topic]
    lost = {(letter.partition, letter.offset) for letter in dead}
    found = list(lost_classes(settings.label, columns, lost))
    count = sum((one.partition, int(offset)) in lost for one in columns for offset in one.offsets)
    if not found:
        return ok(
            f"{count} of the {sum(map(len, columns))} newest labels are dead letters, and no class of them as a whole"
        )
    reasons = Counter(letter.reason for letter in dead).most_common(1)
    texts = [f"all of {it.count} records whose {it.setting} is {it.value!r} are dead letters" for it in found]
    return failed(
        f"{'; '.join(texts)} (most often: {reasons[0][0]})",
        "; ".join(dict.fromkeys(it.fix for it in found)),
        found[0].error,
    )
