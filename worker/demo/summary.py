"""The summary at the end of the demo: what was caught, what it cost, and why accuracy would hide both."""

from __future__ import annotations

from typing import Final

from worker.demo.figures import Figures
from worker.demo.wording import NAMES, date, day_date, minutes, money, percent

_NEXT: Final = (
    'What next: "Point it at your Kafka" in README.md; `fraud-worker alerts tail` then shows your own alerts.'
)


def summary_paragraphs(figures: Figures | None) -> list[str]:
    """Return the paragraphs of the summary; `figures` is None if there was no observation."""
    if figures is None or figures.decided == 0:
        return ["Stopped before the first transaction was decided."]
    return [
        *_reach(figures),
        *(_judgement(figures) if figures.quality.is_known else _unsettled(figures)),
        _NEXT,
    ]


def _reach(figures: Figures) -> list[str]:
    """Say how far the stream was decided, and by which deciders."""
    sentences = [
        f"{figures.decided:,} of {figures.stream_size:,} payments were decided in {minutes(figures.elapsed_s)}."
    ]
    if figures.decided < figures.stream_size:
        sentences.append(
            f"It ended on day {figures.today + 1} of {figures.stream_days}, with {figures.lag:,} payments waiting."
        )
    sentences.append(_deciders(figures))
    return [" ".join(sentences)]


def _deciders(figures: Figures) -> str:
    first, *later = figures.hand_overs
    start = "No model" if first.decider == "none" else f"The {NAMES[first.decider]}"
    rest = [f"from {date(it.at_ms)} on the {NAMES[it.decider]}" for it in later]
    return f"{', '.join([f'{start} decided at first', *rest])}."


def _judgement(figures: Figures) -> list[str]:
    quality = figures.quality
    reviews = quality.cases * figures.review_cost
    caught = round(quality.recall * quality.frauds)
    return [
        f"In the {quality.days} newest days whose labels have settled (up to {day_date(figures, quality.last_day)}), "
        f"{quality.frauds:,.0f} of "
        f"{quality.decisions:,.0f} payments were fraud ({percent(quality.prevalence, 2)}). The worker raised "
        f"{quality.alerts:,.0f} alerts in {quality.cases:,.0f} cases; {caught:,} of these alerts were fraud "
        f"(precision {percent(quality.precision)}). It caught {percent(quality.recall)} of the frauds and "
        f"{percent(quality.recall_by_value)} of the money in them.",
        f"Reviewing cost {money(reviews)} and missed fraud {money(quality.cost - reviews)}, together "
        f"{money(quality.cost)}. Without any alert it would have been {money(quality.cost_none)}: "
        f"{percent(quality.savings)} saved.",
        f"A worker that never alerts would be right {percent(1.0 - quality.prevalence, 2)} of the time and catch "
        "nothing: that is why accuracy is not among the figures.",
    ]


def _unsettled(figures: Figures) -> list[str]:
    return [
        f"It raised {figures.alerts:,} alerts in {figures.cases:,} cases. The labels of no whole day had come when it "
        "ended, so recall, precision and savings are not known yet: let it run longer.",
    ]
