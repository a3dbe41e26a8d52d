"""The users' own field names: sections `[transaction]` and `[label]`, and what all sections are built from."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

Positive = Annotated[int, Field(gt=0, le=1 << 40)]
PositiveOrInfinite = Annotated[float, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 36_500, allow_inf_nan=False)]
"""A century at most: milliseconds and dates stay far from the ends of their types."""
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=249)]
TimeFormat = Literal["epoch_ms", "epoch_s", "iso8601"]
StartFrom = Literal["committed", "earliest", "latest"]
LabelMeaning = Literal["fraud", "legit", "reversal", "declined", "blocked", "challenged", "not_reviewed"]
LABEL_WORDS: Final[tuple[LabelMeaning, ...]] = ("fraud", "legit")
"""What the label of a record may say without `[label.values]`."""
OUTCOME_WORDS: Final[tuple[LabelMeaning, ...]] = ("declined", "blocked", "challenged", "not_reviewed")
"""What its outcome may say without `[label.values]`."""
MAX_SOURCE_CHARACTERS: Final = 64
Word = Annotated[str, Field(min_length=1, max_length=MAX_SOURCE_CHARACTERS)]


class Section(BaseModel):
    """A group of settings. An unknown name is an error, so that no typing mistake passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_DOTTED: Final = "names may have dots; they are names of fields at the top, never paths into an object"


NOT_FIELDS: Final = frozenset(
    {"time_format", "amount_format", "integer_texts", "dotted_names", "combined", "place", "values"}
)
"""Settings of [transaction] and [label] that name no field."""


def _refuse_twice(named: list[tuple[str, str]]) -> None:
    """Refuse a field that two settings name, or one setting twice; of (setting, field)."""
    fields = [field for _, field in named]
    twice = sorted({field for field in fields if fields.count(field) > 1})
    if twice:
        by = list(dict.fromkeys(setting for setting, field in named if field == twice[0]))
        where = " and ".join(by) if len(by) > 1 else f"{by[0]}, twice"
        both_required = by == ["transaction_id", "card_id"]
        fix = (
            "both are required: add a second field, a copy of this one"
            if both_required
            else "declare it once"
        )
        raise ValueError(f"field {twice[0]!r} is declared by {where}: {fix}")


def _refuse_nested(section: str, fields: Section) -> None:
    """Refuse names with a dot: a reader of nested objects would be far slower, and a missing field is not noticed."""
    for setting, value in fields:
        names = value if isinstance(value, tuple) else (value,)
        dotted = [name for name in names if isinstance(name, str) and "." in name]
        if dotted and setting not in NOT_FIELDS:
            raise ValueError(
                f"{section}.{setting} = {dotted[0]!r}: a worker reads the fields of the record itself, none of an "
                f"object inside it. Let the producer write the field at the top; if its name has a dot there, set "
                f"{section}.dotted_names = true"
            )


class TransactionFields(Section):
    """`[transaction]`: the user's names of the fields of a transaction, and further fields to learn from."""

    transaction_id: Name = Field(
        "transaction_id", description="required; a second record of the same id and card is a repeat"
    )
    card_id: Name = Field(
        "card_id", description="required; a token, never a card number; also the key of the record"
    )
    event_time: Name = Field("event_time", description="required; when the card was used")
    amount: Name = Field("amount", description="required; 0 or more, all in one currency")
    currency: Name | None = Field(None, description="optional; copied to the alert, not a feature")
    time_format: TimeFormat = Field("epoch_ms", description="format of `event_time`")
    amount_format: Literal["number", "text"] = Field(
        "number", description='format of `amount`: a JSON number, or a text such as "12.34"'
    )
    integer_texts: bool = Field(
        False,
        description="`categorical` and `entities` may be JSON integers too: 5411 is the same as its text",
    )
    dotted_names: bool = Field(False, description=_DOTTED)
    numeric: tuple[Name, ...] = Field((), description="further fields to learn from: numbers")
    categorical: tuple[Name, ...] = Field(
        (), description="further fields to learn from: strings of few values"
    )
    entities: tuple[Name, ...] = Field(
        ("merchant_id",),
        description="further fields to learn from: identifiers, each with a history of its own; joined ones go to "
        "`combined`",
    )
    combined: tuple[Name, ...] = Field(
        (),
        description='card_id, entities, categoricals and `ages` joined to further entities, such as "card_id+country"',
    )
    place: tuple[Name, ...] = Field(
        (),
        description='which two of `numeric` are degrees of latitude and longitude, in this order: ["lat", "lon"]; '
        "distances and speeds between the card's places are then learnt from",
    )
    ages: tuple[Name, ...] = Field(
        (),
        description="which of `numeric` count the days since a date, as since an account was opened: the date is "
        "learnt from too, and `combined` may join it, as in card_id+account_age",
    )
    not_searched: tuple[Name, ...] = Field(
        (),
        description="which of card_id and the entities are not searched for card numbers, because their values only "
        "look like some; labels follow",
    )

    @model_validator(mode="before")
    @classmethod
    def _joined_entities_are_combined(cls, given: Any) -> Any:
        """Take `entities = ["card_id+country"]` for a combination, unless a field has that name."""
        entities = given.get("entities") if isinstance(given, dict) else None
        if not isinstance(entities, list | tuple) or not all(isinstance(it, str) for it in entities):
            return given
        categorical, combined, ages = (given.get(name, ()) for name in ("categorical", "combined", "ages"))
        if not all(isinstance(it, list | tuple) for it in (categorical, combined, ages)):
            return given
        card_id = given.get("card_id", cls.model_fields["card_id"].default)
        if not all(isinstance(it, str) for it in (card_id, *categorical, *ages)):
            return given
        known = {card_id, *categorical, *ages, *(it for it in entities if "+" not in it)}
        joined = [it for it in entities if "+" in it and known.issuperset(it.split("+"))]
        if not joined:
            return given
        plain = [it for it in entities if it not in joined]
        return {**given, "entities": plain, "combined": [*combined, *joined]}

    @model_validator(mode="after")
    def _fields_are_distinct(self) -> TransactionFields:
        single = ("transaction_id", "card_id", "event_time", "amount")
        several = {"numeric": self.numeric, "categorical": self.categorical, "entities": self.entities}
        named = [(setting, getattr(self, setting)) for setting in single]
        named += [("currency", self.currency)] if self.currency is not None else []
        _refuse_twice(named + [(setting, field) for setting, fields in several.items() for field in fields])
        if not self.dotted_names:
            _refuse_nested("transaction", self)
        self._combinations_are_of_fields()
        self._place_is_two_numbers()
        self._ages_are_numbers()
        tokens = [self.card_id, *self.entities]
        for name in self.not_searched:
            if name not in tokens:
                raise ValueError(
                    f"transaction.not_searched: {name!r} is never searched for card numbers; only these are: {tokens}"
                )
        return self

    def _combinations_are_of_fields(self) -> None:
        known = [self.card_id, *self.entities, *self.categorical, *self.ages]
        for name in self.combined:
            parts = name.split("+")
            unknown = [part for part in parts if part not in known]
            if unknown:
                raise ValueError(
                    f"transaction.combined: {name!r} names {unknown[0]!r}; join two or more of these by +: {known}"
                )
            if len(parts) < 2 or len(set(parts)) < len(parts):
                raise ValueError(
                    f"transaction.combined: {name!r} must join two or more different fields by +"
                )
        _refuse_twice([("combined", "+".join(sorted(name.split("+")))) for name in self.combined])

    def _place_is_two_numbers(self) -> None:
        if self.place and (len(self.place) != 2 or self.place[0] == self.place[1]):
            raise ValueError(
                f"transaction.place = {list(self.place)} must name two fields, latitude and longitude in this order"
            )
        for name in self.place:
            if name not in self.numeric:
                raise ValueError(
                    f"transaction.place: {name!r} is not in transaction.numeric = {list(self.numeric)}; add it there"
                )

    def _ages_are_numbers(self) -> None:
        _refuse_twice([("ages", name) for name in self.ages])
        for name in self.ages:
            if name not in self.numeric:
                raise ValueError(
                    f"transaction.ages: {name!r} is not in transaction.numeric = {list(self.numeric)}; add it there"
                )


class LabelFields(Section):
    """`[label]`: the user's names of the fields of a label."""

    transaction_id: Name = Field(
        "transaction_id", description="required; id of the transaction that it labels"
    )
    card_id: Name = Field(
        "card_id", description="required; card of that transaction, also the key of the record"
    )
    label: Name = Field("label", description="fraud or legit; this or `outcome` is required")
    outcome: Name = Field("outcome", description="declined, blocked, challenged or not_reviewed")
    source: Name = Field(
        "source",
        description="required with `label`; who reports it, at most 64 characters; `reversal` takes a fraud label back",
    )
    label_time: Name = Field("label_time", description="required; when it became known")
    event_time: Name = Field(
        "event_time", description="optional; when the card was used: with it the decision is found faster"
    )
    time_format: TimeFormat = Field(
        "epoch_ms",
        description="format of `label_time` and `event_time`; if it is not set, that of [transaction]",
    )
    dotted_names: bool = Field(False, description=_DOTTED)
    values: dict[Word, LabelMeaning] = Field(
        {},
        description="your words for fraud, legit, reversal (of a fraud label), declined, blocked, challenged and "
        'not_reviewed: CONFIRMED_FRAUD = "fraud"',
    )

    @model_validator(mode="after")
    def _fields_are_distinct(self) -> LabelFields:
        _refuse_twice([(name, value) for name, value in self if name not in NOT_FIELDS])
        if not self.dotted_names:
            _refuse_nested("label", self)
        return self

    @field_validator("values")
    @classmethod
    def _our_words_keep_their_meaning(cls, values: dict[str, LabelMeaning]) -> dict[str, LabelMeaning]:
        for word, meaning in values.items():
            if word in {*LABEL_WORDS, *OUTCOME_WORDS, "reversal"} and word != meaning:
                raise ValueError(
                    f"label.values: {word!r} always means {word}, not {meaning}; remove the line"
                )
        return values
