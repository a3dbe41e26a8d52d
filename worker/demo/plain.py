"""The demo in plain lines, where there is no terminal to draw a page on."""

from __future__ import annotations

from typing import Final

from worker.demo.figures import Figures
from worker.demo.wording import NAMES, UNSETTLED, date, hour, milliseconds, minutes, money, percent

SHOWN_PER_DECIDER: Final = 3
"""How many alerts of each decider the lines show."""


def status_lines(figures: Figures) -> list[str]:
    """Return the status in a few lines."""
    quality = figures.quality
    shares = ", ".join(f"{NAMES[name]} {percent(share)}" for name, share in figures.shares.items() if share)
    lines = [
        f"Day {figures.today + 1} of {figures.stream_days} ({date(figures.now_ms)} {hour(figures.now_ms)}), "
        f"{minutes(figures.elapsed_s)} of {minutes(figures.duration_s)}: "
        f"{figures.decided:,} decided, {figures.per_s:,.0f}/s, lag {figures.lag:,}; deciders: {shares or 'none yet'}",
        f"  {figures.alerts:,} alerts in {figures.cases:,} cases, from append to alert p50 "
        f"{milliseconds(figures.latency_p50_s)}, p99 {milliseconds(figures.latency_p99_s)}; "
        f"cost so far {money(figures.reviews_cost + figures.missed_cost)}",
    ]
    if not quality.is_known:
        return [*lines, f"  prevalence, recall, precision, savings: {UNSETTLED}"]
    return [
        *lines,
        f"  settled days: {quality.days}, prevalence {percent(quality.prevalence, 2)}, recall {percent(quality.recall)}"
        f" ({percent(quality.recall_by_value)} by value), precision {percent(quality.precision)}, "
        f"savings {percent(quality.savings)}, labelled {percent(quality.label_coverage)}",
    ]
