"""Single decisions in the report of a backtest: the costliest misses, and alerts with their reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from worker.offline.figures import ExplainedAlert, Miss, ReasonCount
from worker.offline.report import wording
from worker.offline.report.markup import NOTHING, Column, Html, Table, element, paragraph, text
from worker.offline.report.page import missing
from worker.wire.schema import AlertReason

DECIDERS: Final = {"none": "no decider", "forest": "isolation forest", "online": "online model"}
"""Names of the deciders."""


def miss_table(misses: Sequence[Miss]) -> Html:
    """Return the missed frauds, one a line."""
    if not misses:
        return missing("No fraud is known to have been missed.")
    table = Table(
        f"The {len(misses)} missed frauds of the largest loss.",
        [
            Column("transaction"),
            Column("time, UTC"),
            Column("amount"),
            Column("loss"),
            Column("decided by", words=True),
            Column("probability"),
            Column("expected loss"),
            Column("alerts from", "the threshold in force"),
        ],
    )
    for miss in misses:
        cells = [
            wording.moment(miss.event_time_ms),
            f"{miss.amount:,.2f}",
            wording.money(miss.loss),
            DECIDERS[miss.decider.name.lower()],
            wording.percent(miss.probability),
            wording.decimal(miss.expected_loss, 2),
            _limit(miss.threshold),
        ]
        table.add(text(miss.transaction_id), *map(text, cells))
    return table.html()


def reason_table(caption: str, counts: Sequence[ReasonCount]) -> Html:
    """Return how often each feature is a reason."""
    if not counts:
        return missing(f"{caption}: there is no such alert.")
    table = Table(
        f"{caption}. First: its contribution is the largest. Named: one of those that raise the score.",
        [Column("feature"), Column("first"), Column("share"), Column("named"), Column("", words=True)],
    )
    for one in counts:
        bar = element("span", class_="full", style=f"width:{100.0 * one.share:.1f}%")
        table.add(
            element("span", text(one.text), element("small", text(one.feature))),
            text(wording.count(one.first)),
            text(wording.percent(one.share)),
            text(wording.count(one.named)),
            element("div", bar, class_="bar", aria_hidden="true"),
        )
    return table.html()


def alert_cards(alerts: Sequence[ExplainedAlert]) -> Html:
    """Return alerts as an analyst reads them."""
    if not alerts:
        return missing("There is no alert to explain.")
    return element("div", *map(_alert, alerts), class_="cards wide")


def _alert(alert: ExplainedAlert) -> Html:
    truth = {True: "fraud", False: "legitimate", None: "truth not known"}[alert.fraud]
    heading = element(
        "h3", text(f"{alert.amount:,.2f}"), Html(" "), element("span", text(truth), class_="badge")
    )
    where = paragraph(f"{wording.moment(alert.event_time_ms)}, transaction {alert.transaction_id}", "quiet")
    if alert.decided_by == "online":
        score = (
            f"probability {wording.percent(alert.probability)}, expected loss {wording.decimal(alert.expected_loss, 2)}"
            f" (alerts from {_limit(alert.threshold)})"
        )
    else:
        score = f"ranks as unusual (alerts from a rank of {_limit(alert.threshold)})"
    items = [
        element("li", element("span", text(_contribution(one))), element("span", text(_what(one))))
        for one in alert.reasons
    ]
    return element(
        "article",
        heading,
        where,
        paragraph(f"{DECIDERS.get(alert.decided_by, alert.decided_by)}: {score}"),
        element("ul", *items, class_="reasons"),
        _sum(alert),
        class_="card",
    )


def _contribution(reason: AlertReason) -> str:
    return f"{'+' if reason.contribution >= 0.0 else ''}{wording.decimal(reason.contribution)}"


def _what(reason: AlertReason) -> str:
    return reason.sentence or reason.text


def _sum(alert: ExplainedAlert) -> Html:
    if alert.reference is None or not math.isfinite(alert.reference):
        return NOTHING
    logit = alert.reference + sum(one.contribution for one in alert.reasons)
    return paragraph(
        f"From {wording.decimal(alert.reference)} to begin with, they make a logit of {wording.decimal(logit)} before"
        " calibration.",
        "quiet",
    )


def _limit(threshold: float) -> str:
    return "nothing" if threshold == math.inf else wording.decimal(threshold, 2)
