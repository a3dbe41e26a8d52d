"""The messages on the wire, version 1: incoming messages are strict, outgoing ones only gain optional fields.

Transactions and labels carry the user's own field names, so their models are built from the settings.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from models.vocabulary import LabelKind
from worker.redaction import looks_like_card_number, redact_bytes
from worker.settings.fields import MAX_SOURCE_CHARACTERS, LabelFields, TimeFormat, TransactionFields
from worker.wire.label_words import LabelWords

SCHEMA_VERSION: Final = 1
_VERSION_MEANING: Final = "fields may be added under it; any other change makes another version"
MAX_ID_CHARACTERS: Final = 128
MAX_TEXT_CHARACTERS: Final = 256
MAX_RECORD_BYTES: Final = 1 << 20
MAX_ORIGINAL_BYTES: Final = 1 << 16
MAX_AMOUNT: Final = 1e12
MAX_NUMBER: Final = 3e38
"""Features are 32-bit floats; beyond this lies their infinity."""
END_OF_TIME_MS: Final = 4_102_444_800_000
"""2100-01-01; event times lie from 1970 up to here."""

MAX_INTEGER: Final = 10**18
"""An integer that stands for a text lies below, on either side of zero."""
MAX_AMOUNT_CHARACTERS: Final = 32
AMOUNT_TEXT: Final = r"^[0-9]+([.][0-9]+)?$"

_MAX_DETAIL: Final = 200
_PRINTABLE: Final = r"^\P{Cc}*$"
_CARD: Final = "a token for the card, and the record's key; one that holds a card number is refused"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ISO_TIME: Final = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
"""A regular expression of Python and of JSON Schema alike."""

DECODE_STAGE: Final = "decode"
"""Where a record is refused for a `Reason`."""


class Reason(StrEnum):
    """Why a record does not decode, or is refused although it does."""

    NULL_VALUE = "null_value"
    NULL_KEY = "null_key"
    KEY_MISMATCH = "key_mismatch"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    BAD_TEXT = "bad_text"
    BAD_TIME = "bad_time"
    BAD_LABEL = "bad_label"
    CARD_NUMBER = "card_number"
    MISPLACED = "misplaced"


_REASONS: Final = {
    **{reason.value: reason for reason in Reason},  # the errors that our own validators raise
    "json_invalid": Reason.NOT_JSON,
    "model_type": Reason.NOT_AN_OBJECT,
    "missing": Reason.MISSING_FIELD,
    "finite_number": Reason.NOT_FINITE,
    "greater_than_equal": Reason.OUT_OF_RANGE,
    "less_than_equal": Reason.OUT_OF_RANGE,
    "less_than": Reason.OUT_OF_RANGE,
    "string_too_short": Reason.BAD_TEXT,
    "string_too_long": Reason.BAD_TEXT,
    "string_pattern_mismatch": Reason.BAD_TEXT,
    "literal_error": Reason.BAD_LABEL,
}


class Fault(NamedTuple):
    """What is wrong with a record, without quoting it."""

    reason: Reason
    detail: str


def explain_record(error: ValidationError) -> Fault:
    """Turn the first error of a validation into a fault that names the field."""
    first: ErrorDetails = error.errors(include_url=False, include_context=False, include_input=False)[0]
    reason = _REASONS.get(first["type"], Reason.WRONG_TYPE)
    where = f"{first['loc'][0]}: " if first["loc"] else ""
    return Fault(reason, (where + first["msg"])[:_MAX_DETAIL])


def _no_card_number(text: str) -> str:
    if looks_like_card_number(text):
        raise PydanticCustomError(Reason.CARD_NUMBER.value, "a card number where a token belongs, or in it")
    return text


def _iso_to_ms(text: str) -> int:
    not_iso = PydanticCustomError(Reason.BAD_TIME.value, "not an ISO 8601 date, time and offset")
    # `fromisoformat` accepts more forms than the compiled reader: week dates, for one.
    if re.fullmatch(ISO_TIME, text) is None:
        raise not_iso
    try:
        moment = datetime.fromisoformat(text)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise not_iso from None
    milliseconds = since // timedelta(milliseconds=1)
    if not 0 <= milliseconds < END_OF_TIME_MS:
        raise PydanticCustomError(Reason.OUT_OF_RANGE.value, "a time outside 1970-2099")
    return milliseconds


def _seconds_to_ms(seconds: float) -> int:
    return round(seconds * 1000.0)


def _text_to_amount(text: str) -> float:
    amount = float(text)
    if amount > MAX_AMOUNT:
        raise PydanticCustomError(Reason.OUT_OF_RANGE.value, "an amount above 1e12")
    return amount


_SEARCHED: Final = AfterValidator(_no_card_number)
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS, pattern=_PRINTABLE)]
Token = Annotated[Identifier, _SEARCHED]
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS, pattern=_PRINTABLE)]
SearchedText = Annotated[Text, _SEARCHED]
Amount = Annotated[float, Field(ge=0, le=MAX_AMOUNT)]
AmountText = Annotated[
    str,
    Field(min_length=1, max_length=MAX_AMOUNT_CHARACTERS, pattern=AMOUNT_TEXT),
    AfterValidator(_text_to_amount),
]
IntegerText = Annotated[int, Field(gt=-MAX_INTEGER, lt=MAX_INTEGER), AfterValidator(str)]
Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Source = Annotated[str, Field(min_length=1, max_length=MAX_SOURCE_CHARACTERS, pattern=_PRINTABLE)]

TIMES: Final[dict[TimeFormat, Any]] = {
    "epoch_ms": Annotated[int, Field(ge=0, lt=END_OF_TIME_MS)],
    "epoch_s": Annotated[float, Field(ge=0, lt=END_OF_TIME_MS / 1000), AfterValidator(_seconds_to_ms)],
    "iso8601": Annotated[str, Field(json_schema_extra={"format": "date-time"}), AfterValidator(_iso_to_ms)],
}


class IncomingMessage(BaseModel):
    """A message that others write: no conversion between types, finite numbers only, unknown fields ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class Transaction(IncomingMessage):
    """The fields of every transaction; `transaction_model` adds those that the user declares."""

    transaction_id: Identifier
    card_id: Identifier
    event_time: int
    amount: Amount


class Label(IncomingMessage):
    """What became known of a transaction: a label, or an outcome after which its silence means nothing."""

    transaction_id: Identifier
    card_id: Identifier
    words: ClassVar[LabelWords] = LabelWords.of(LabelFields())

    label: str | None = None
    outcome: str | None = None
    source: Source | None = None
    label_time: int
    event_time: int | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.label is None) == (self.outcome is None):
            raise PydanticCustomError(Reason.BAD_LABEL.value, "either a label or an outcome")
        kind = None if self.label is None else self.words.labels[self.label]
        if kind not in {None, LabelKind.OUTCOME} and self.source is None:
            raise PydanticCustomError(Reason.BAD_LABEL.value, "a label names its source")
        if self.source in self.words.reversing and kind not in {LabelKind.LEGIT, LabelKind.REVERSAL}:
            raise PydanticCustomError(Reason.BAD_LABEL.value, "a reversal's label is legit")
        return self


def transaction_model(fields: TransactionFields) -> type[Transaction]:
    """Build the model of the user's transactions.

    Its attributes are ours, `numeric_0`, `categorical_0` and `entity_0` onwards for the declared fields in
    their order; its aliases are the user's names.
    """
    definitions: dict[str, Any] = {
        "transaction_id": _required(
            fields.transaction_id, Identifier, "names the transaction; labels refer to it"
        ),
        "card_id": _required(fields.card_id, card_type(fields), _CARD),
        "event_time": _required(fields.event_time, TIMES[fields.time_format], "when it happened"),
        "amount": _required(
            fields.amount,
            Amount if fields.amount_format == "number" else AmountText,
            "in the currency that the costs are set in",
        ),
    }
    if fields.currency is not None:
        definitions["currency"] = _optional(
            fields.currency, SearchedText, "goes to the alert as it is; nothing is converted"
        )
    text: Any = Text | IntegerText if fields.integer_texts else Text
    for group, names, kind, meaning in (
        ("numeric", fields.numeric, Number, "a number to learn from"),
        ("categorical", fields.categorical, text, "one of few values, to learn from"),
    ):
        definitions |= {f"{group}_{i}": _optional(name, kind, meaning) for i, name in enumerate(names)}
    for i, name in enumerate(fields.entities):
        kind = text if name in fields.not_searched else Annotated[text, _SEARCHED]
        refused = "" if name in fields.not_searched else "; a card number is refused"
        definitions[f"entity_{i}"] = _optional(name, kind, f"an identifier that gathers history{refused}")
    return create_model("Transaction", __base__=Transaction, __doc__="A card transaction.", **definitions)


def card_type(fields: TransactionFields) -> Any:
    """Return the type of a card's token: searched for card numbers unless the settings say otherwise."""
    return Identifier if fields.card_id in fields.not_searched else Token


def is_searched(info: FieldInfo) -> bool:
    """Return whether a field of a model is searched for card numbers."""
    # Of an optional field the annotation holds the validators, of a required one the field itself.
    parts = [info.metadata, *(getattr(kind, "__metadata__", ()) for kind in get_args(info.annotation))]
    return any(_SEARCHED in part for part in parts)


def label_model(fields: LabelFields, transaction: TransactionFields | None = None) -> type[Label]:
    """Build the model of the user's labels: our attributes under the user's names; the card as in `transaction`."""
    time = TIMES[fields.time_format]
    words = LabelWords.of(fields)
    definitions: dict[str, Any] = {
        "transaction_id": _required(fields.transaction_id, Identifier, "of the transaction that it is about"),
        "card_id": _required(fields.card_id, card_type(transaction or TransactionFields()), _CARD),
        "label": _optional(fields.label, _one_of(words.labels), "what the transaction proved to be"),
        "outcome": _optional(
            fields.outcome, _one_of(words.outcomes), "what was done to it, where no one can know what it was"
        ),
        "source": _optional(
            fields.source, Source, "who sends the label, which must name it; a reversal's label is legit"
        ),
        "label_time": _required(fields.label_time, time, "when it became known"),
        "event_time": _optional(fields.event_time, time, "of the transaction: the label is found sooner"),
    }
    model = create_model("Label", __base__=Label, __doc__=Label.__doc__, **definitions)
    model.words = words
    return model


def _one_of(words: Iterable[str]) -> Any:
    return Literal[tuple(words)]


def _required(name: str, kind: Any, meaning: str) -> tuple[Any, Any]:
    return kind, Field(alias=name, description=meaning)


def _optional(name: str, kind: Any, meaning: str) -> tuple[Any, Any]:
    return kind | None, Field(None, alias=name, description=meaning)


class OutgoingMessage(BaseModel):
    """A message that the worker writes; readers ignore fields they do not know."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> bytes:
        """Return the message as JSON, as it goes to the topic."""
        return self.model_dump_json().encode()


class AlertReason(OutgoingMessage):
    """One feature's part in a score."""

    feature: str = Field(description="the feature's name")
    text: str = Field(description="the same in words")
    value: float | str | None = Field(description="what it was; null where it was missing")
    contribution: float = Field(description="what it adds to the logit (online) or to the score (forest)")
    sentence: str | None = Field(None, description="the reason in an analyst's words, with its value")


class Alert(OutgoingMessage):
    """A transaction worth an investigator's time, and why."""

    schema_version: Literal[1] = Field(SCHEMA_VERSION, description=_VERSION_MEANING)
    alert_id: str = Field(description="a function of card, transaction id and entity_key alone")
    transaction_id: str = Field(description="of the transaction alerted on")
    card_id: str = Field(description="its card's token, and the record's key")
    case_id: str = Field(description="shared by the alerts of a card within one case window")
    event_time_ms: int = Field(description="when the transaction happened, in ms since 1970 UTC")
    amount: float = Field(description="of the transaction")
    currency: str | None = Field(description="as the transaction names it; null where it does not")
    decided_by: Literal["online", "forest"] = Field(description="the online model or the isolation forest")
    probability: float | None = Field(description="calibrated; null where the forest decided")
    forest_score: float | None = Field(description="anomaly score; null where the forest did not score")
    forest_rank: float | None = Field(description="anomaly score times amount, by which the forest ranks")
    expected_loss: float | None = Field(description="probability times loss")
    threshold: float = Field(
        description="alerted from here on: an expected loss (online; lower where only its open case makes it an alert) "
        "or a rank (forest)"
    )
    joins_case: bool = Field(False, description="whether only the open case of its card makes it an alert")
    loss: float = Field(description="what it costs to miss this one, if it is a fraud")
    review_cost: float = Field(description="what it costs to look at the case")
    reasons: list[AlertReason] = Field(
        description="largest contribution first; the last one, other_features, is the sum of all others"
    )
    fields: dict[str, float | str | None] = Field(
        default_factory=dict,
        description="the fields of the transaction that alerts.fields names, as they came; card numbers are struck out",
    )
    reference: float | None = Field(description="online: the logit is this plus all contributions")
    model_version: str = Field(description="lineage and model-log offset of the state that decided")


class DeadLetter(OutgoingMessage):
    """A record that could not be used, redacted and bounded, and where it came from."""

    schema_version: Literal[1] = Field(SCHEMA_VERSION, description=_VERSION_MEANING)
    topic: str = Field(description="where the record lies")
    partition: int = Field(description="of that topic")
    offset: int = Field(description="in that partition")
    timestamp_ms: int = Field(description="of the record, in ms since 1970 UTC")
    stage: str = Field(description="the step that refused it")
    reason: str = Field(description="one word, such as missing_field, not_json or orphan_label")
    detail: str = Field(max_length=_MAX_DETAIL, description="the same for people; quotes no value")
    original: str | None = Field(
        description="base64, card numbers struck out; null if the record had no value"
    )
    original_bytes: int = Field(description="length of the value")
    sha256: str | None = Field(
        description="of the whole value, card numbers struck out; null if it is longer than 1 MiB or not known whole"
    )
    truncated: bool = Field(description="only the beginning of the value is here")

    @classmethod
    def of(  # noqa: PLR0913 - the message's own fields, by name
        cls,
        value: bytes | None,
        *,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
        stage: str,
        reason: str,
        detail: str,
        value_bytes: int | None = None,
    ) -> Self:
        """Redact and bound a record's value; a card number that straddles the bound is struck out whole.

        `value` may be cut behind `MAX_ORIGINAL_BYTES`; its whole length is then `value_bytes`. The digest is of the
        redacted value: with a digest of the original, trying all hidden digits would find a card number.
        """
        length = len(value or b"") if value_bytes is None else value_bytes
        whole = redact_bytes((value or b"")[:MAX_RECORD_BYTES])
        has_digest = value is not None and len(value) == length <= MAX_RECORD_BYTES
        return cls(
            topic=topic,
            partition=partition,
            offset=offset,
            timestamp_ms=timestamp_ms,
            stage=stage,
            reason=reason,
            detail=detail[:_MAX_DETAIL],
            original=None if value is None else base64.b64encode(whole[:MAX_ORIGINAL_BYTES]).decode(),
            original_bytes=length,
            sha256=hashlib.sha256(whole).hexdigest() if has_digest else None,
            truncated=length > MAX_ORIGINAL_BYTES,
        )
