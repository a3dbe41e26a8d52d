"""The reasons of an alert in an analyst's words, each with what it was.

Counts are of decayed sums: they say *about* how many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date
from typing import Final

from models.aggregates import CARD_COUNT_FEATURE, ENTITY_FEATURES, FRAUD_PRIOR, NOTHING
from models.feature_layout import FeatureSpec, card_columns

Row = Sequence[float]
_NO_COUNT: Final = 0.5
_EPOCH: Final = date(1970, 1, 1).toordinal()
_ONE_PERCENT: Final = 0.01


class Sentences:
    """Writes the sentences of one layout of features.

    Parameters
    ----------
    spec
        The declared fields.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._short_days = spec.half_lives_days[0]
        self._entities = spec.entities
        self._card_features = spec.card_features
        self._first_share = 1 + self._card_features - len(spec.entities)
        self._card = [_amount, *(_CARD[name] for name, _ in card_columns(spec)[: self._first_share - 1])]
        self._first_entity = 1 + self._card_features + 1
        self._hour = self._first_entity + len(spec.entities) * ENTITY_FEATURES
        self._ages = spec.ages
        self._numeric = spec.numeric
        self._categorical = spec.categorical

    def of(self, feature: int, row: Row, category: str | None) -> str:
        """Return the sentence of one feature.

        Parameters
        ----------
        feature
            Its place in the layout.
        row : (F,)
            All features of the transaction.
        category
            The value, where the feature is a category.
        """
        value = row[feature]
        if feature < self._first_share:
            return self._card[feature](value)
        if feature < self._first_entity:
            return self._of_card(feature - self._first_share, row)
        if feature < self._hour:
            return self._of_entities(feature - self._first_entity, row)
        if feature == self._hour:
            return f"at {_time_of_day(value)} UTC"
        after = feature - self._hour - 1
        if after < len(self._ages):
            return f"{self._ages[after]} counts from {_date(value)}"
        return self._declared(after - len(self._ages), value, category)

    def _of_card(self, index: int, row: Row) -> str:
        value = row[self._first_share + index]
        if index == len(self._entities):
            return f"{_about(value, 'fraud')} reported on this card"
        entity = self._entities[index]
        if math.isfinite(value):
            return _familiar(entity, value)
        has_history = row[1 + CARD_COUNT_FEATURE] > NOTHING
        return f"{entity} is missing" if has_history else "this card has no earlier payment"

    def _declared(self, index: int, value: float, category: str | None) -> str:
        if index < len(self._numeric):
            shown = f"{value:.6g}" if math.isfinite(value) else "missing"
            return f"{self._numeric[index]} is {shown}"
        name = self._categorical[index - len(self._numeric)]
        return f"{name} is {'missing' if category is None else category}"

    def _of_entities(self, index: int, row: Row) -> str:
        entity, kind = divmod(index, ENTITY_FEATURES)
        first = self._first_entity + entity * ENTITY_FEATURES
        its, name = row[first : first + ENTITY_FEATURES], self._entities[entity]
        return f"{name} is missing" if all(map(math.isnan, its)) else f"{name}: {self._of_entity(kind, its)}"

    def _of_entity(self, kind: int, row: Row) -> str:
        value = row[kind]
        legits = _power(2.0, -row[3] / self._short_days)
        if kind in {0, 2}:
            frauds = max(0.0, _power(math.e, row[0]) * (legits + 1.0) - FRAUD_PRIOR)
            settled = frauds + legits
            if not settled >= _NO_COUNT:
                return "no payment of known outcome yet"
            payments = "payment" if settled < 1.5 else "payments"
            return f"{_about(frauds, 'fraud')} among its last {settled:.0f} {payments} of known outcome"
        if kind == 1:
            return _fraud_share(value)
        if kind == 3:
            return f"{_about(legits, 'latest payment')} proved legitimate"
        if kind == 4:
            return f"{_about(value, 'fraud')} reported"
        return (
            f"{value:.1f} times its usual traffic"
            if math.isfinite(value)
            else "its usual traffic is not known yet"
        )


def _amount(value: float) -> str:
    return f"the amount is {value:,.2f}" if math.isfinite(value) else "the amount is missing"


def _fraud_share(log_odds: float) -> str:
    """Return the share of fraud that smoothed odds say: of few payments they say little more than the prior."""
    if math.isclose(log_odds, math.log(FRAUD_PRIOR), abs_tol=1e-6):
        return "no payment of known outcome yet"
    odds = _power(math.e, log_odds)
    share = odds / (1.0 + odds)
    # Smoothing adds to a share below the prior, and takes from one above it.
    whole = f"at most {math.ceil(100 * share)}" if odds < FRAUD_PRIOR else f"about {100 * share:.0f}"
    shown = "less than 1" if share < _ONE_PERCENT else whole
    return f"{shown} % fraud among its recent payments of known outcome"


def _familiar(entity: str, share: float) -> str:
    if share == 0.0:
        return f"this {entity} is new to this card"
    shown = "less than 1" if share < _ONE_PERCENT else f"about {100 * share:.0f}"
    return f"{shown} % of this card's payments had this {entity}"


def _card_deviation(value: float) -> str:
    side = "above" if value >= 0 else "below"
    return f"{abs(value):.1f} standard deviations {side} this card's average amount"


def _known(sentence: Callable[[float], str], unknown: str) -> Callable[[float], str]:
    return lambda value: sentence(value) if math.isfinite(value) else unknown


_NO_USUAL: Final = "this card's usual amount is not known yet"
_NO_MEAN: Final = "this card's average amount is not known yet"
_NO_PLACE: Final = "no earlier place of this card is known"
_CARD: Final[dict[str, Callable[[float], str]]] = {
    "card_amount_to_usual": _known(lambda value: f"{value:.1f} times this card's usual amount", _NO_USUAL),
    "card_amount_to_mean": _known(lambda value: f"{value:.1f} times this card's average amount", _NO_MEAN),
    "card_amount_deviation": _known(_card_deviation, "how far this card's amounts vary is not known yet"),
    "card_usual_amount": _known(lambda value: f"this card usually pays about {value:,.2f}", _NO_USUAL),
    "card_excess": lambda value: (
        f"this card's latest amounts lie above its usual one, together by {value:.1f} times its usual variation"
        if value >= _NO_COUNT
        else "none of this card's latest amounts lies far above its usual one"
    ),
    "card_large_count": lambda value: (
        f"{_about(value, 'recent amount')} of this card far above what is usual for it"
    ),
    "card_count_short": lambda value: f"{_about(value, 'latest payment')} of this card",
    "card_count_long": lambda value: f"{_about(value, 'payment')} of this card over a longer time",
    "card_count_burst": lambda value: f"{_about(value, 'payment')} of this card just before",
    "card_idle_hours": _known(
        lambda value: f"this card last paid {_ago(value)}", "this card has no earlier payment"
    ),
    "card_distance_km": _known(lambda value: f"{value:,.0f} km from this card's last place", _NO_PLACE),
    "card_speed_kmh": _known(lambda value: f"{value:,.0f} km/h since this card's last place", _NO_PLACE),
    "card_usual_distance_km": _known(
        lambda value: f"{value:,.0f} km from this card's usual place", _NO_PLACE
    ),
}
"""By name in `models.feature_layout.card_columns`; those of the entities follow there."""


def _about(count: float, noun: str) -> str:
    if not count >= _NO_COUNT:
        return f"no {noun}"
    return f"about {count:,.0f} {noun}" + ("s" if count >= 1.5 else "")


def _ago(hours: float) -> str:
    """Return a time in the greatest unit of which there are at least two."""
    if hours == 0.0:
        return "at this time or later"
    for unit, its_hours in (("days", 24.0), ("hours", 1.0), ("minutes", 1.0 / 60.0)):
        if hours >= 2.0 * its_hours:
            return f"{hours / its_hours:,.0f} {unit} before"
    return "less than two minutes before"


def _power(base: float, exponent: float) -> float:
    """Return a power, 0 where the exponent is unknown; a huge one is cut, for it overflows."""
    return 0.0 if math.isnan(exponent) else base ** min(exponent, 100.0)


def _date(days: float) -> str:
    first, last = date.min.toordinal(), date.max.toordinal()
    if not math.isfinite(days):
        return "a date that is missing"
    return date.fromordinal(min(max(_EPOCH + int(days), first), last)).isoformat()


def _time_of_day(hours: float) -> str:
    minutes = int(hours * 60.0) % 1440 if math.isfinite(hours) else 0
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
