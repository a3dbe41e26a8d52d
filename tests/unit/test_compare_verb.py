from __future__ import annotations

import contextlib
import io
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.comparisons import comparison
from worker.cli import main
from worker.commands import compare as verb
from worker.errors import SettingsError
from worker.offline.compare import comparing
from worker.offline.compare.comparing import Options
from worker.offline.compare.mistakes import Mistake
from worker.offline.compare.result import Comparison
from worker.offline.compare.windows import Shares
from worker.settings.mistakes import ENV_PREFIX

pytestmark = pytest.mark.usefixtures("own_surroundings")

SMALL = ("--simulate", "--cards", "70", "--days", "90", "--prevalence", "0.06", "--seed", "3")


@pytest.fixture(scope="module")
def outputs() -> dict[str, str]:
    """Compare once, and print it in several ways."""
    made: dict[str, str] = {}
    done: list[Comparison] = []
    once = comparing.compare

    def remembered(*args: Any, **named: Any) -> Comparison:
        if not done:
            done.append(once(*args, **named))
        return done[0]

    ways = {
        "text": ("--metric", "accuracy"),
        "ap": ("--metric", "ap"),
        "json": ("--json",),
        "accuracy": ("--json", "--metric", "accuracy"),
    }
    for name, more in ways.items():
        out = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
            patch.setattr(comparing, "compare", remembered)
            # One generation, because each searches settings anew, which takes seconds.
            patch.setenv(f"{ENV_PREFIX}MODEL__GENERATION_DAYS", "400")
            patch.setenv(f"{ENV_PREFIX}MODEL__MIN_FRAUDS", "250")
            patch.setenv(f"{ENV_PREFIX}ENTITY_KEY", "0f" * 16)
            # A stream in memory has no encoding that could be changed.
            patch.setattr(out, "reconfigure", lambda **_: None, raising=False)
            assert main(["compare", *SMALL, "--only", "logistic,online_logistic,ours", *more]) == 0
        made[name] = out.getvalue()
    return made


def test_the_table_says_what_was_compared(outputs: dict[str, str]) -> None:
    text = outputs["text"]
    assert text.startswith("simulated traffic, seed 3\n")
    for words in (
        "frauds: 6 %, moderate imbalance (1 to 10 %)",
        "label delays vary: a verdict counts after 22 days, whatever its class",
        "Thresholds by cost are raised until the window that they are tuned on keeps within the budget of cases",
        "a review costs 5, a missed fraud 5 + 1 x amount; budget 200 cases a day",
        "Frozen: fitted once before the test window",
        "Refreshed: batch models refitted every week",
        "caps: all: all rows, 600 s and 6 GiB a block",
        "Recommendation\n  Use ",
        "Accuracy is worthless here.",
    ):
        assert words in text
    for strategy in ("logistic", "online_logistic", "online_model", "forest", "worker"):
        assert text.count(f" {strategy} ") >= 2
    assert max(len(line) for line in text.splitlines()) <= 170


def test_accuracy_is_nowhere_but_where_it_is_asked_for(outputs: dict[str, str]) -> None:
    assert "ccuracy" not in outputs["ap"]
    assert "ccuracy" not in outputs["json"]


def test_json_explains_accuracy_to_who_asks_for_it(outputs: dict[str, str]) -> None:
    explained = json.loads(outputs["accuracy"]).pop("accuracy")
    test = json.loads(outputs["json"])["windows"][-1]
    assert explained["always_legit"] == pytest.approx(1.0 - test["frauds"] / test["rows"])
    said = " ".join(outputs["text"].partition("\nAccuracy\n")[2].partition("\nRecommendation\n")[0].split())
    assert explained["words"] == said


def test_rows_are_ordered_by_the_metric(outputs: dict[str, str]) -> None:
    whole = json.loads(outputs["json"])
    figures = {row["strategy"]: row["ap"] for row in whole["rows"] if row["block"] == "frozen"}
    block = outputs["ap"].partition("Frozen:")[2].partition("Refreshed:")[0]
    order = sorted(figures, key=lambda name: block.index(f" {name} "))
    assert [figures[name] for name in order] == sorted(figures.values(), reverse=True)


def test_json_has_rows_of_both_blocks_and_a_recommendation(outputs: dict[str, str]) -> None:
    whole = json.loads(outputs["json"])
    assert [(row["strategy"], row["block"]) for row in whole["rows"]] == [
        (name, block)
        for block in ("frozen", "refreshed")
        for name in ("logistic", "online_logistic", "online_model", "forest", "worker")
    ]
    named = {row["strategy"] for row in whole["rows"]}
    assert whole["recommendation"]["strategy"] in named
    assert whole["recommendation"]["paragraphs"]
    assert [window["name"] for window in whole["windows"]] == ["warm-up", "train", "tune", "gap", "test"]
    for row in whole["rows"]:
        assert row["left_out"] is None
        assert 0.0 <= row["recall"] <= 1.0
        assert row["excess_low"] <= row["excess"] <= row["excess_high"]
        assert row["caps"] is None or row["caps"]["seconds"] == 600.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name either a file, such as payments.parquet, or --simulate"),
        (["x.csv", "--simulate"], "name either a file"),
        (["x.csv"], "name its column by --fraud-column"),
        (["x.csv", "--fraud-column", "f", "--days", "3"], "--days is for --simulate"),
        (["--simulate", "--only", "smot"], "there is no strategy 'smot': did you mean smote"),
        (["--simulate", "--only", "SMOTE,woker"], "there is no strategy 'SMOTE': did you mean smote"),
        (["--simulate", "--only", "smote,woker"], "there is no strategy 'woker': did you mean worker"),
        (["--simulate", "--only", "resamplin"], "there is no strategy 'resamplin': did you mean resampling"),
        (["--simulate", "--days", "20"], "span 20 days: a comparison needs 30"),
        (["--simulate", "--mistakes", "--only", "smote"], "--only is not for --mistakes"),
        (["--simulate", "--mistakes", "--skip", "smote"], "--skip is not for --mistakes"),
        (["--simulate", "--mistakes", "--features", "journalled"], "--features is not for --mistakes"),
        (["--simulate", "--mistakes", "--jobs", "2"], "--jobs is not for --mistakes"),
        (["--simulate", "--mistakes", "--max-seconds", "9"], "--max-seconds is not for --mistakes"),
        (["--simulate", "--mistakes", "--metric", "ap"], "--metric is not for --mistakes"),
        (["--simulate", "--report", "nowhere/at/all.html"], "there is no folder 'nowhere/at'"),
        (["--simulate", "--label-delay-days", "45"], "--label-delay-days is for a file: leave it out"),
        (["--simulate", "--unlabelled", "legit"], "--unlabelled is for a file: leave it out"),
        (["--simulate", "--only", "worker", "--skip", "worker"], "no strategy is left to compare"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_ten_rows_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ten.csv"
    lines = [f"t{row},c1,{1_700_000_000_000 + row},5.0,m1,{row % 2}" for row in range(10)]
    path.write_text("\n".join(["transaction_id,card_id,event_time,amount,merchant_id,fraud", *lines]))
    assert main(["compare", str(path), "--fraud-column", "fraud", "--only", "logistic"]) == 2
    assert "span 1 day: a comparison needs 30" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "15,40,14",
        "1,2,3,x",
        "15,0,14,14",
        "-1,2,3,4",
        "",
        "nan,nan,nan,nan",
        "15,40,inf,14",
        "1,1,1e308,1e308",
        "15,40,14,-1,14",
        "15,40,14,inf,14",
        "15,40,14,7,14,1",
    ],
)
def test_windows_are_four_proportions_or_five_numbers(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--simulate", f"--windows={text}"])
    assert (
        f"{text!r} is not four numbers, that of the warm-up from 0 and the others above 0, such as 15,40,14,14, or "
        "five with the days of the gap in the fourth place, such as 15,40,14,7,14"
    ) in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("text", "shares"),
    [("0,2,3,4", Shares(0, 2, 3, 4)), ("15,40,14,0,13", Shares(15, 40, 14, 13, gap_days=0))],
)
def test_the_gap_is_the_fourth_of_five_numbers(text: str, shares: Shares) -> None:
    assert verb._shares(text) == shares


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1.5", ""])
@pytest.mark.parametrize("option", ["--seed", "--label-seed"])
def test_a_seed_is_a_whole_number_that_every_library_takes(
    option: str, seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "x.csv", f"{option}={seed}"])
    assert (
        f"argument {option}: '{seed}' is not a whole number from 0 to 4294967295" in capsys.readouterr().err
    )


@pytest.mark.parametrize("option", ["--only", "--skip"])
@pytest.mark.parametrize("text", [",", "", " , "])
def test_a_list_of_strategies_that_names_none_is_refused(
    option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--simulate", f"{option}={text}"])
    assert f"argument {option}: {text!r} names no strategy: see --list" in capsys.readouterr().err


def options(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Options:
    taken: list[Options] = []

    class StoppedError(Exception):
        pass

    def stop(_settings: object, _dataset: object, chosen: Options, *_: object, **__: object) -> None:
        taken.append(chosen)
        raise StoppedError

    monkeypatch.setattr("worker.offline.compare.comparing.compare", stop)
    with pytest.raises(StoppedError):
        main(["compare", *SMALL, *arguments])
    return taken[0]


def test_strategies_own_rows_and_families_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    some = options(
        monkeypatch, "--only", "threshold,worker", "--only", "weights:25", "--skip", "threshold_half"
    )
    names = [it.name for it in some.strategies]
    theirs = ["best_f1", "cost", "cheapest", "cost_regularised"]
    assert names == [*(f"threshold_{it}" for it in theirs), "weights:25"]
    assert [it.name for it in some.own_rows] == ["worker"]
    ours = options(monkeypatch, "--only", "ours")
    assert (len(ours.strategies), len(ours.own_rows)) == (0, 3)
    others = options(
        monkeypatch, "--skip", "ours", "--max-seconds", "5", "--windows", "0,2,3,4", "--jobs", "3"
    )
    assert (len(others.own_rows), others.jobs, others.shares) == (0, 3, Shares(0.0, 2.0, 3.0, 4.0))
    assert {it.caps.seconds for it in others.strategies} == {5.0}


def test_what_is_not_given_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert options(monkeypatch).features == "journalled"
    assert options(monkeypatch, "--features", "raw").features == "raw"


@pytest.mark.parametrize("as_json", [False, True])
def test_mistakes_are_shown_beside_the_honest_figure(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nan = float("nan")
    made = (
        Mistake("accuracy as the metric", "accuracy", 0.984, "recall", 0.0, "It catches none."),
        Mistake("one method only", "", nan, "", nan, "Not shown: too few frauds."),
    )
    prepared = SimpleNamespace(
        material=SimpleNamespace(usable=None), notes=("labels are late", "amounts are odd")
    )
    monkeypatch.setattr("worker.offline.compare.prepared.prepare", lambda *_, **__: prepared)
    monkeypatch.setattr("worker.offline.compare.mistakes.mistakes", lambda *_: made)
    assert main(["compare", *SMALL, "--mistakes", *(["--json"] if as_json else [])]) == 0
    text = capsys.readouterr().out
    if as_json:
        whole = json.loads(text)
        first, second = whole["mistakes"]
        assert whole["notes"] == ["labels are late", "amounts are odd"]
        assert (first["reported"], first["honest"], second["reported"]) == (0.984, 0.0, None)
    else:
        assert (
            "\naccuracy as the metric\n  accuracy 98.4 %   honest: recall 0.0 %\n  It catches none.\n" in text
        )
        assert "\none method only\n  Not shown: too few frauds.\n" in text
        assert "  note: labels are late\n  note: amounts are odd\n" in text


@pytest.mark.parametrize(
    ("writer", "more", "shown"),
    [
        ("write_comparison", ["--only", "logistic"], "\nRecommendation\n"),
        ("write_mistakes", ["--mistakes"], "It catches none."),
    ],
)
def test_what_a_page_should_have_shown_is_printed_although_it_cannot_be_written(
    writer: str,
    more: list[str],
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def full(*_: object) -> None:
        raise SettingsError("--report: no space left")

    made = (Mistake("accuracy as the metric", "accuracy", 0.984, "recall", 0.0, "It catches none."),)
    monkeypatch.setattr(f"worker.offline.report.{writer}", full)
    monkeypatch.setattr("worker.offline.compare.mistakes.mistakes", lambda *_: made)
    monkeypatch.setattr(comparing, "compare", lambda *_, **__: comparison(rows=300))
    path = tmp_path / "page.html"
    for output in ([], ["--json"]):
        assert main(["compare", *SMALL, *more, *output, "--report", str(path)]) == 2
        printed = capsys.readouterr()
        assert (shown if not output else "{") in printed.out
        assert f"{path}: the report" not in printed.out
        assert "no space left" in printed.err


def test_the_list_names_every_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--list"]) == 0
    text = capsys.readouterr().out
    for name in ("smote", "threshold_cost", "adaptive_random_forest", "worker"):
        assert f"\n  {name} " in text


def test_progress_elsewhere_is_lines_with_the_seconds_so_far_and_those_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter((100.0, 107.0, 112.0, 121.0))
    monkeypatch.setattr("worker.commands.compare.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with verb._bars() as (_, on_change):
        on_change(0, 3, ["smote"])
        on_change(1, 3, ["adasyn"])
        on_change(1, 3, ["adasyn", "logistic"])
        on_change(3, 3, [])
    assert capsys.readouterr().err == (
        "compare: 1 of 3 strategies after 7 s, about 14 s left; in hand: adasyn\n"
        "compare: 3 of 3 strategies after 21 s\n"
    )


def test_progress_at_a_terminal_shows_the_time_so_far_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with verb._bars() as (_, on_change):
        on_change(1, 4, ["smote"])
        time.sleep(0.2)
        on_change(2, 4, ["adasyn"])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert re.search(r"2/4 0:00:0\d left 0:00:0\d adasyn", plain)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
