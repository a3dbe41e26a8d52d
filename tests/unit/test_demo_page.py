from __future__ import annotations

import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from tests.support.demo_figures import DAY_MS, START_MS, UNSETTLED, alert, at_the_start, figures
from worker.demo.display import LineDisplay, PageDisplay, display_for
from worker.demo.figures import Day, Figures, HandOver, ShownAlert
from worker.demo.page import Page
from worker.demo.picture import save_picture
from worker.demo.start_page import Stage, StartPage
from worker.errors import SettingsError

SIZES = [(80, 24), (100, 32), (140, 45), (60, 20), (40, 12)]
HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]\u202e[/]"


def drawn(page: RenderableType, width: int = 80, height: int = 24, *, colour: bool = False) -> list[str]:
    """The lines of a page of that size."""
    out = StringIO()
    console = Console(
        file=out, width=width, height=height, force_terminal=colour, color_system="truecolor" if colour else None,
        no_color=not colour, _environ={},
    )  # fmt: skip
    console.print(page, height=height)
    return out.getvalue().splitlines()


def text(shown: Figures, width: int = 80, height: int = 24) -> str:
    return "\n".join(drawn(Page(shown), width, height))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(
    "shown", [figures(), at_the_start(), figures(newest=(ShownAlert(alert(), ""),) * 60)]
)
def test_the_page_fits_its_terminal(shown: Figures, width: int, height: int) -> None:
    lines = drawn(Page(shown), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "height"), SIZES[:3])
def test_nothing_but_reasons_is_cut_short(width: int, height: int) -> None:
    lines = drawn(Page(figures(newest=())), width, height)
    # The frame closes on the right, and nothing is abbreviated inside.
    assert all(line.rstrip()[-1] in "╮│╯" for line in lines[2:])
    assert "…" not in "".join(lines).replace("…001234", "")


def test_the_page_says_what_is_known() -> None:
    shown = text(figures(), 100, 32)
    for said in (
        "http://127.0.0.1:29999/metrics", "day 23 of 40, Tue 23 Jan 14:05", "1:09 of 2:00",
        "98,211", "1,498", "61 ms / 140 ms", "1,204", "987",
        "Who decides: online model, since Mon 8 Jan, 00:49", "isolation forest 25 %, online model 75 %",
        "cost so far 28,082", "75 % of 120,000 at risk", "loss 6.30 (λ 1.26)",
        "Quality: 15 settled days to 17 Jan", "1.00 %", "60 % (80 % of value)", "42 % of 1,000 alerts",
        "97 % of 70,000 settled",
        "9 Jan 15:30", "1,234.50", "…001234", "46 %", "17.75 ≥ 14.14", "rank", "753.0 ≥ 71.8", "amount; shop: latest",
    ):  # fmt: skip
        assert said in shown, said


def test_accuracy_is_not_among_the_figures() -> None:
    assert all("accura" not in text(figures(), *size).lower() for size in SIZES)


def test_figures_that_labels_have_not_settled_are_shown_as_unknown() -> None:
    shown = text(figures(quality=UNSETTLED))
    assert "prevalence  known once labels settle" in shown
    assert "savings     known once labels settle" in shown
    assert "nan" not in shown.lower()


def test_nothing_is_nan_before_the_first_decision() -> None:
    shown = text(at_the_start(), 100, 32)
    assert "nan" not in shown.lower()
    assert "Who decides: waiting for the first transactions" in shown


@pytest.mark.parametrize(
    ("decider", "said"),
    [
        ("none", "Who decides: no decider yet; the forest needs more traffic first"),
        ("forest", "Who decides: isolation forest, until 100 frauds are learnt (63 so far)"),
    ],
)
def test_the_page_says_what_a_hand_over_waits_for(decider: str, said: str) -> None:
    assert said in text(figures(hand_overs=(HandOver(decider, START_MS),), frauds_learnt=63))


def test_the_days_show_who_decided_threshold_and_recall() -> None:
    days = (Day("none", math.nan, math.nan), Day("forest", 1.0, 0.0), Day("online", 3.0, 1.0))
    lines = drawn(Page(figures(history=days, now_ms=START_MS + 3 * DAY_MS - 1)), 80, 32)
    by_day, threshold, recall = (
        next(line for line in lines if name in line) for name in ("by day", "threshold", "recall ")
    )
    assert "··"[:1] + "▒" + "█" in by_day
    assert " ▁█" in threshold  # nothing known, then the lowest and the highest
    assert " ▁█" in recall


def test_text_of_others_cannot_steer_the_terminal() -> None:
    hostile = alert(card_id=HOSTILE, transaction_id=HOSTILE, reasons=[
        {"feature": "f", "text": HOSTILE, "value": HOSTILE, "contribution": 1.0}
    ])  # fmt: skip
    shown = text(figures(newest=(ShownAlert(hostile, ""),)), 140, 45)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert r"\x1b[2J\x1b]0;owned\x07[bold red]\u202e[/]" in shown  # nor is it taken for markup


def test_without_colour_the_deciders_still_differ() -> None:
    shown = text(figures(), 80, 24)
    assert "\x1b" not in shown
    assert "· no decider  ▒ isolation forest  █ online model" in shown


def test_with_colour_fraud_is_red() -> None:
    shown = "\n".join(drawn(Page(figures()), 100, 32, colour=True))
    assert "\x1b[1;31mfraud" in shown


def test_the_start_shows_what_takes_how_long() -> None:
    page = StartPage()
    page.stages = [Stage("Fetching Kafka", 31.4, done=True), Stage("Starting it", 2.0, done=False)]
    lines = drawn(page)
    assert any("✓" in line and "Fetching Kafka" in line and "31 s" in line for line in lines)
    assert any("✓" not in line and "Starting it" in line and "2 s" in line for line in lines)


@pytest.mark.parametrize(
    ("console", "kind"),
    [
        (Console(file=StringIO(), force_terminal=True, _environ={"TERM": "xterm"}), PageDisplay),
        (Console(file=StringIO(), force_terminal=True, _environ={"TERM": "dumb"}), LineDisplay),
        (Console(file=StringIO(), force_terminal=False, _environ={}), LineDisplay),
    ],
)
def test_a_page_needs_a_terminal_that_can_draw_it(console: Console, kind: type) -> None:
    assert isinstance(display_for(console), kind)


def test_the_picture_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    save_picture(figures(), tmp_path / "demo.svg")
    svg = (tmp_path / "demo.svg").read_text(encoding="utf-8")
    assert "Who&#160;decides:" in svg
    assert [part.split('"')[0] for part in svg.split("http")[1:]] == ["://www.w3.org/2000/svg"]
    assert "url(" not in svg.replace("url(#", "")


def test_a_picture_that_cannot_be_written_is_refused_with_its_argument(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"--picture = .*demo\.svg': No such file or directory; name a file"
    ):
        save_picture(figures(), tmp_path / "absent" / "demo.svg")


def test_a_narrow_page_says_the_most_important() -> None:
    shown = text(figures(), 60, 20)
    for said in (
        "day 23 of 40",
        "98,211 decided",
        "online model, since Mon 8 Jan",
        "recall 60 %",
        "savings 75 %",
    ):
        assert said in shown, said
