"""The report of a backtest: what the worker would have cost, who decided, what it missed, and why it alerted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.vocabulary import Decider
from worker.offline.backtest import BacktestResult
from worker.offline.dataset_notes import what_to_know
from worker.offline.figures import Judged, Stretch, charge, stretch
from worker.offline.report import wording
from worker.offline.report.course import (
    Course,
    course,
    days_of,
    lines_over_time,
    over_time,
    week_table,
)
from worker.offline.report.curves import (
    Ranked,
    Reached,
    calibration,
    capacity,
    cost_over_threshold,
    precision_recall,
)
from worker.offline.report.markup import (
    NOTHING,
    Column,
    Html,
    Table,
    definitions,
    element,
    joined,
    paragraph,
    text,
)
from worker.offline.report.page import Section, figure, figures, missing, page
from worker.offline.report.plots import Axis, Reference, Series
from worker.offline.report.single_decisions import DECIDERS, alert_cards, miss_table, reason_table


def backtest_page(result: BacktestResult, source: str) -> str:
    """Return the report as one page."""
    sections = [
        Section("money", "What it would have cost", _money(result), is_headline=True),
        Section("course", "Who decided when, and how many cases", [_course(result)]),
        *(_judged_sections(result) if result.whole.evaluation.n else ()),
        Section("misses", "The costliest misses", [miss_table(result.costliest_misses)]),
        Section(
            "reasons",
            "Why it alerted",
            [
                reason_table("Most frequent reasons of alerts on frauds", result.true_reasons),
                reason_table("Most frequent reasons of alerts on legits", result.false_reasons),
            ],
        ),
        Section("explained", "Alerts as an analyst reads them", [alert_cards(result.explained)]),
        Section("setup", "What the figures rest on", _setup(result)),
    ]
    return page("Backtest: what the worker would have decided", _lead(result, source), sections)


def _judged_sections(result: BacktestResult) -> list[Section]:
    """Return the sections that need the truth."""
    stretches = [(Series(0, "whole stretch"), result.whole)]
    if result.cold is not None and result.steady is not None:
        stretches.append((Series(1, "steady state"), result.steady))
    every = [_ranked(result, one, series, online_alone=False) for series, one in stretches]
    online = [_ranked(result, one, series, online_alone=True) for series, one in stretches]
    online = [one for one in online if len(one.judged)]
    threshold_note = (
        "The median expected loss from which the online model alerted: the review cost, or more where the budget of"
        " cases demands it. Alerts that join an open case need a tenth of a review."
    )
    is_all_known = result.whole.evaluation.n == result.whole.decisions
    shown = course(result.days)
    return [
        Section(
            "ranking",
            "Precision, recall and calibration",
            [figures([precision_recall("pr", "Precision and recall", every), calibration(online)])],
        ),
        Section(
            "cost",
            "Cost over the threshold",
            [
                paragraph("Decisions of the online model alone: the forest has no probability.", "quiet"),
                cost_over_threshold(online),
            ],
        ),
        Section(
            "capacity",
            "Capacity: what so many cases a day bring",
            [capacity(every, is_all_known=is_all_known)],
        ),
        Section(
            "time",
            "Over time",
            [
                over_time(every[:1], "expected loss", threshold_note, [_cost_over_time(shown)]),
                week_table(
                    "Week by week; cost and shares are of the decisions whose truth is known.",
                    [(None, result.weeks)],
                ),
            ],
        ),
    ]


def _lead(result: BacktestResult, source: str) -> list[Html]:
    whole = result.whole
    return [
        definitions(
            [
                ("source", source),
                ("stretch", f"{wording.date(whole.start_ms)} to {wording.date(whole.end_ms - 1)}"),
                ("days", f"{whole.days:.3g}"),
                ("decisions", wording.count(whole.decisions)),
                ("truth known", wording.count(whole.evaluation.n)),
                ("frauds", wording.count(whole.evaluation.frauds)),
                ("prevalence", wording.percent(whole.evaluation.prevalence)),
                ("label coverage", wording.percent(whole.label_coverage)),
                ("alerts", wording.count(whole.alerts)),
                ("cases a day", wording.rate(whole.cases_per_day)),
            ]
        )
    ]


def _money(result: BacktestResult) -> list[Html]:
    whole, its = result.whole, result.whole.evaluation
    if its.n == 0:
        return [
            missing(
                "The truth of no decision is known, so nothing can be judged: name the column of the labels."
            )
        ]
    saved = min(its.cost_none, its.cost_all) - its.cost
    better = result.better_trivial_policy
    words = (
        f"In {wording.days(whole.days)} the worker would have cost {wording.money(its.cost)}:"
        f" {wording.money(its.cost_reviews)} for the reviews of {its.cases:,} cases, and"
        f" {wording.money(its.cost_missed)} in {its.frauds - its.caught:,} missed frauds. Alerting on {better}, the"
        f" better trivial policy, would have cost {wording.money(abs(saved))} {'more' if saved >= 0.0 else 'less'}."
    )
    if better == "everything":
        budget = result.settings.costs.alert_budget_cases_per_day
        words += wording.beyond_budget(result.cases_for_all_per_day, budget)
    cards = [
        _card(title, its_stretch)
        for title, its_stretch in (
            ("All of it", whole),
            ("Cold start", result.cold if result.steady is not None else None),
            ("Steady state", result.steady if result.cold is not None else None),
        )
        if its_stretch is not None
    ]
    when = ""
    if result.steady_from_ms is not None:
        when = (
            f"The steady state begins at {wording.moment(result.steady_from_ms)}, when the online model has decided for"
            " as long as silence takes to count as legitimate."
        )
    return [
        paragraph(words),
        element("div", *cards, class_="cards"),
        paragraph(when, "quiet") if when and len(cards) > 1 else NOTHING,
        _policies(result),
        paragraph(
            f"Accuracy is nowhere on this page: calling every transaction legitimate would be"
            f" {wording.percent(1.0 - its.prevalence)} accurate here, and would catch none of {its.frauds:,} frauds.",
            "quiet",
        ),
    ]


def _card(title: str, shown: Stretch) -> Html:
    its = shown.evaluation
    facts = [
        ("cost", wording.money(its.cost)),
        ("savings", wording.percent(its.savings)),
        ("recall", wording.percent(its.recall)),
        ("by value", wording.percent(its.recall_by_value)),
        ("precision", wording.percent(its.precision)),
        ("F1", wording.percent(its.f1)),
        ("AP", wording.decimal(its.ap)),
        ("ROC AUC", wording.decimal(its.roc_auc)),
        ("cases a day", wording.rate(shown.cases_per_day)),
        ("days", f"{shown.days:.3g}"),
    ]
    return element("div", element("h3", text(title)), definitions(facts), class_="card")


def _policies(result: BacktestResult) -> Html:
    its = result.whole.evaluation
    rows = [
        ("this worker", its.cost_reviews, its.cost_missed),
        ("alert on nothing", 0.0, its.cost_none),
        ("alert on everything", its.cost_all, 0.0),
    ]
    longest = max((reviews + missed for _, reviews, missed in rows), default=0.0) or 1.0
    table = Table(
        "The cost, and that of the trivial policies. The full part of a bar is reviews, the hatched one missed frauds.",
        [
            Column("policy"),
            Column("reviews"),
            Column("missed frauds"),
            Column("cost"),
            Column("share", words=True),
        ],
    )
    for name, reviews, missed in rows:
        bars = [
            element("span", class_=kind, style=f"width:{100.0 * part / longest:.1f}%")
            for kind, part in (("full", reviews), ("hatched", missed))
        ]
        table.add(
            text(name),
            text(wording.money(reviews)),
            text(wording.money(missed)),
            text(wording.money(reviews + missed)),
            element("div", *bars, class_="bar", aria_hidden="true"),
        )
    return table.html()


def _course(result: BacktestResult) -> Html:
    whole, shown = result.whole, course(result.days)
    shares = "; ".join(
        f"{DECIDERS[name]} {wording.percent(share)}" for name, share in whole.decided_by.items()
    )
    cases = (
        f"{whole.alerts:,} alerts opened {whole.cases:,} cases: {wording.rate(whole.cases_per_day)} cases a day. A"
        " review is charged once a case."
    )
    if len(shown.start_ms) < 2:
        return joined([paragraph(f"Decisions by: {shares}."), paragraph(cases)])
    lines = [
        (label, values)
        for label, values in (
            ("none", shown.decided_by_none),
            ("forest", shown.decided_by_forest),
            ("online", shown.decided_by_online),
        )
        if bool((values > 0.0).any())
    ]
    deciders = lines_over_time(
        "deciders",
        f"Deciders by {shown.name}",
        shown,
        Axis("share of the decisions", 0.0, 1.0, wording.whole_percent),
        lines,
    )
    budget = result.model.policy.costs.alert_budget_cases_per_day
    most = max(float(shown.alerts.max()), float(shown.cases.max()), budget or 0.0)
    ends = (float(days_of(shown)[0]), float(days_of(shown)[-1]))
    alerts = lines_over_time(
        "alerts",
        f"Cases and alerts a day, by {shown.name}",
        shown,
        Axis("a day", 0.0, 1.1 * most or 1.0, wording.compact),
        [("cases", shown.cases), ("alerts", shown.alerts)],
        [Reference(ends, (budget, budget), f"budget: {wording.alert_budget(budget)}")]
        if budget is not None
        else [],
    )
    return figures([figure(deciders, f"In all: {shares}."), figure(alerts, cases)])


def _cost_over_time(shown: Course) -> Html:
    most = max(float(shown.cost_reviews.max(initial=0.0)), float(shown.cost_missed.max(initial=0.0)))
    plot = lines_over_time(
        "course-cost",
        f"Cost a day, by {shown.name}",
        shown,
        Axis("cost a day", 0.0, 1.1 * most or 1.0, wording.compact),
        [("reviews", shown.cost_reviews), ("missed", shown.cost_missed)],
    )
    return figure(
        plot,
        "A review is charged at the first alert of its case whose truth is known, a missed fraud when it happened.",
    )


def _ranked(result: BacktestResult, shown: Stretch, series: Series, *, online_alone: bool) -> Ranked:
    """Return the decisions of a stretch whose truth is known, ranked as the worker would rank them."""
    every = result.judged
    chosen = (
        every.truth_known & (every.event_time_ms >= shown.start_ms) & (every.event_time_ms < shown.end_ms)
    )
    is_online = every.decider == Decider.ONLINE
    judged = _on_its_own(every.take(chosen & is_online if online_alone else chosen))
    review_cost = result.model.policy.costs.review_cost
    its = stretch(judged, review_cost, shown.start_ms, shown.end_ms).evaluation
    by_online = judged.decider == Decider.ONLINE
    return Ranked(
        series=series,
        judged=judged,
        reached=Reached(
            its.recall, its.recall_by_value, its.precision, its.savings, its.cost, its.cases / shown.days
        ),
        # Expected losses are not negative, and the scores of the other deciders lie far below zero.
        rank=np.where(by_online, judged.expected_loss, judged.score),
        rank_label="expected loss",
        threshold=np.where(by_online, judged.threshold, np.nan),
        has_probability=online_alone,
        days=shown.days,
        review_cost=review_cost,
    )


def _on_its_own(judged: Judged) -> Judged:
    """Charge reviews as the curves do, which know of these decisions alone: also where a case began before them."""
    charged = charge(judged.case, judged.alerted, judged.truth_known)
    return replace(judged, charged=charged.of_alerts, charged_for_all=charged.of_all)


def _setup(result: BacktestResult) -> list[Html]:
    costs = result.model.policy.costs
    facts = [
        ("review of a case", wording.money(costs.review_cost)),
        ("missed fraud", f"{costs.loss_fixed:,g} + {costs.loss_factor:g} \N{MULTIPLICATION SIGN} amount"),
        ("alert budget", wording.alert_budget(costs.alert_budget_cases_per_day)),
        ("case window", f"{result.settings.costs.case_window_hours:g} hours"),
        ("transactions read", wording.count(result.transactions)),
        ("alerts declined", wording.percent(result.handled.declined)),
        ("alerts answered within hours", wording.percent(result.handled.answered)),
        ("model", result.model.version),
        ("speed", f"{wording.count(result.transactions_per_second)} a second"),
    ]
    notes = list(what_to_know(result.dataset))
    return [
        definitions(facts),
        element("ul", *(element("li", text(note)) for note in notes)) if notes else NOTHING,
        paragraph(
            "Every decision used only what was known at its moment: labels arrived at their own times, and the figures"
            " are of the scores as of the decision.",
            "quiet",
        ),
    ]
