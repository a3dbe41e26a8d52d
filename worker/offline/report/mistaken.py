"""The report of the classic mistakes: what each would have reported, and what counts instead."""

from __future__ import annotations

from collections.abc import Sequence

from worker.offline.compare.mistakes import Mistake
from worker.offline.report import wording
from worker.offline.report.markup import Column, Html, Table, definitions, element, paragraph, text
from worker.offline.report.page import Section, page


def mistakes_page(made: Sequence[Mistake], source: str, notes: Sequence[str]) -> str:
    """Return the report as one page.

    Parameters
    ----------
    made
        The mistakes.
    source
        Name of the data.
    notes
        What the reader has to know.
    """
    lead = [definitions([("source", source), ("features", "raw")]), *map(paragraph, notes)]
    why = paragraph(
        "The features are raw, since those that the worker journals have the history of labels in them. So these"
        " figures are not to be compared with those of the strategies.",
        "quiet",
    )
    side_by_side = Section("mistakes", "Reported and honest", [_table(made), why], is_headline=True)
    words = [Section(f"mistake-{at}", it.name, [paragraph(it.words)]) for at, it in enumerate(made, 1)]
    return page("The classic mistakes", lead, [side_by_side, *words])


def _table(made: Sequence[Mistake]) -> Html:
    table = Table(
        "What each mistake reports on these data, and the figure without it.",
        [Column("mistake"), Column("reported"), Column("honest")],
    )
    for one in made:
        shown = [_figure(one.reported_as, one.reported), _figure(one.honest_as, one.honest)]
        table.add(text(one.name), *shown)
    return table.html()


def _figure(name: str, value: float) -> Html:
    if not name:
        return text(wording.UNKNOWN)
    return element("span", text(f"{wording.percent(value)} "), element("small", text(name)), class_="wraps")
