"""`backtest` as a person calls it: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.vocabulary import Decider
from worker.cli import main
from worker.errors import SettingsError
from worker.offline import backtest as offline_backtest
from worker.offline import report
from worker.offline.backtest import BacktestResult, backtest
from worker.offline.backtest_text import delay, prevalence
from worker.offline.dataset import Dataset
from worker.offline.dataset_notes import what_to_know
from worker.offline.decisions_file import write_decisions
from worker.redaction import redact
from worker.settings.fields import LabelFields
from worker.simulation import FIELDS, Simulation, Traffic
from worker.simulation.files import write_labels, write_transactions
from worker.simulation.naming import Naming
from worker.wire.schema import AlertReason

pytestmark = pytest.mark.usefixtures("own_surroundings")

KEY = "00112233445566778899aabbccddeeff"
SETTINGS = f"""
entity_key = "{KEY}"
[kafka]
sasl_password = "hush-hush"
[transaction]
entities = ["merchant_id"]
categorical = ["channel", "country"]
numeric = ["distance_km"]
[labels]
negatives_after_days = 2.0
horizon_days = 5.0
[model]
min_frauds = 20
forest_min_rows = 400
generation_days = 3.0
[costs]
review_cost = 3.0
"""
TRAFFIC = Traffic(cards=150, merchants=30, days=10, prevalence=0.06, seed=3, label_delay_days=1.0)
TRUTH = ["--fraud-column", "is_fraud", "--label-time-column", "label_time"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings, and one simulation as Parquet, and as JSON lines with the labels beside."""
    folder = tmp_path_factory.mktemp("backtest")
    (folder / "worker.toml").write_text(SETTINGS, encoding="utf-8")
    dearer = SETTINGS.replace("review_cost = 3.0", "review_cost = 6.0")
    (folder / "dearer.toml").write_text(dearer, encoding="utf-8")
    simulation = Simulation.of(TRAFFIC)
    for name in ("a.parquet", "a.jsonl"):
        write_transactions(simulation, folder / name, Naming.under(FIELDS))
    write_labels(simulation, folder / "a.labels.jsonl", LabelFields())
    return folder


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> dict[str, BacktestResult]:
    """Runs by their arguments: one of the same arguments is not made again."""

    def judge(settings: Any, dataset: Any, *, progress: Any, **options: Any) -> BacktestResult:
        key = f"{settings.costs.review_cost} {len(dataset)} {dataset.silence_is_legit} {options}"
        if key not in _RUNS:
            _RUNS[key] = backtest(settings, dataset, progress=progress, **options)
        runs[key] = _RUNS[key]
        return _RUNS[key]

    runs: dict[str, BacktestResult] = {}
    monkeypatch.setattr(offline_backtest, "backtest", judge)
    return runs


_RUNS: dict[str, BacktestResult] = {}


def command(folder: Path, *options: str, file: str = "a.parquet", config: str = "worker.toml") -> list[str]:
    return ["backtest", str(folder / file), "--config", str(folder / config), *options]


@pytest.mark.usefixtures("remembered")
def test_it_prints_its_figures_under_headings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(folder, *TRUTH, "--json")) == 0
    figures = json.loads(capsys.readouterr().out)
    assert main(command(folder, *TRUTH, "--weeks")) == 0
    out = capsys.readouterr().out
    lines = [line.strip() for line in out.splitlines()]
    for heading in ("Data", "Who decided when", "Ranking", "Alerts", "Cost", "By week"):
        assert heading in lines
    shown = {line[:32].strip(): line[32:].split() for line in out.splitlines() if line[:2] == "  "}
    assert shown["decisions"][0] == f"{figures['decisions']:,}"
    assert shown["frauds among them"][0] == str(figures["frauds"])
    assert shown["average precision"][0] == f"{figures['ap']:.4f}"
    assert shown["recall by value"][0] == f"{100 * figures['recall_by_value']:.1f}"
    assert shown["reviews"][0] == f"{figures['cost_reviews']:,.0f}"
    assert shown["if it alerted on nothing"][0] == f"{figures['cost_none']:,.0f}"
    assert "cold start" in out
    assert "Cold start lasts until the online model first decides and 2 days more" in out
    assert sum(line.startswith("2024-01-") for line in lines) == len(figures["weeks"]) == 2
    assert "accuracy" not in out.lower()


@pytest.mark.usefixtures("remembered")
def test_its_json_keeps_its_names_and_is_strict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(folder, *TRUTH, "--json")) == 0
    printed = capsys.readouterr().out
    figures = json.loads(printed, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    names = {
        "n",
        "prevalence",
        "ap",
        "roc_auc",
        "recall",
        "precision",
        "f1",
        "cost",
        "savings",
        "label_coverage",
    }
    speeds = {"transactions", "seconds", "transactions_per_second"}
    assert names | speeds | {f"decided_by_{decider.name.lower()}" for decider in Decider} <= set(figures)
    assert figures["cold_start"]["decisions"] + figures["steady_state"]["decisions"] == figures["decisions"]
    assert figures["run"]["settings"]["costs.review_cost"] == 3.0
    assert figures["refused"] == []
    assert KEY not in printed
    assert "hush-hush" not in printed


@pytest.mark.usefixtures("remembered")
def test_two_runs_are_compared_and_what_else_differs_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "earlier.json"
    assert main(command(folder, *TRUTH, "--json")) == 0
    earlier.write_text(capsys.readouterr().out, encoding="utf-8")

    assert main(command(folder, *TRUTH, "--against", str(earlier))) == 0
    out = capsys.readouterr().out
    assert "Both runs had the same data, labels and settings." in out
    assert "difference" in out

    against = ["--against", str(earlier), "--json"]
    assert main(command(folder, *TRUTH, *against, config="dearer.toml")) == 0
    found = json.loads(capsys.readouterr().out)["against"]
    assert found["unequal"] == ["costs.review_cost was 3.0, now 6.0"]
    assert found["differences"]["cost_none"] == 0
    assert found["differences"]["cost_all"] > 0

    options = ["--fraud-column", "is_fraud", "--label-delay", "lognormal:3:1", "--to", "2024-01-09"]
    assert main(command(folder, *options, "--evaluate-from", "2024-01-05", *against)) == 0
    transactions, labels, start, end = json.loads(capsys.readouterr().out)["against"]["unequal"]
    assert (transactions, labels) == ("the transactions differ", "the labels or their times differ")
    assert start.startswith("judged_from was 2024-01-01T")
    assert start.endswith("now 2024-01-05T00:00:00.000+00:00")
    assert end.startswith("judged_to was 2024-01-10T")


@pytest.mark.usefixtures("remembered")
def test_an_earlier_run_that_does_not_say_of_what_it_is_is_compared_with_a_warning(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text('{"savings": 0.25, "ap": null}', encoding="utf-8")
    assert main(command(folder, *TRUTH, "--against", str(earlier), "--json")) == 0
    against = json.loads(capsys.readouterr().out)["against"]
    assert against["unequal"] == ["the earlier file does not say of which data and settings it is"]
    assert against["differences"]["ap"] is None
    assert math.isfinite(against["differences"]["savings"])
    assert main(command(folder, *TRUTH, "--against", str(folder / "worker.toml"))) == 2
    assert "this is not what `backtest --json` prints" in capsys.readouterr().err


@pytest.mark.usefixtures("remembered")
def test_labels_may_come_from_the_file_that_simulate_writes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, *TRUTH, "--json")) == 0
    whole = json.loads(capsys.readouterr().out)
    labels = tmp_path / "labels.jsonl"
    text = (folder / "a.labels.jsonl").read_text(encoding="utf-8")
    text += '{"transaction_id": "gone", "label": "fraud", "source": "customer"}\n'
    labels.write_text(text, encoding="utf-8")
    assert main(command(folder, "--labels", str(labels), "--json", file="a.jsonl")) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    for name in ("n", "frauds", "ap", "cost", "decided_by_online", "label_coverage"):
        assert found[name] == whole[name]
    assert found["label_file"]["unmatched"] == 1
    assert "1 of" in err
    assert "labels find no transaction: gone" in err
    assert found["run"]["transactions_digest"] == whole["run"]["transactions_digest"]
    assert found["run"]["labels_digest"] != whole["run"]["labels_digest"]


def test_every_decision_is_written_and_nothing_that_looks_like_a_card_number(
    folder: Path, remembered: dict[str, BacktestResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "decisions.parquet"
    assert main(command(folder, *TRUTH, "--out", str(path))) == 0
    assert f"{path}: " in capsys.readouterr().err
    [result] = remembered.values()
    table = pq.read_table(path)
    assert len(table) == result.transactions
    dataset, judged = result.dataset, result.judged
    assert table["transaction_id"].to_pylist() == dataset.transaction_id.to_pylist()
    assert table["card_id"].to_pylist() == dataset.card_id.to_pylist()
    assert table["is_fraud"].to_pylist() == dataset.is_fraud.tolist()  # type: ignore[union-attr]
    assert table["alerted"].to_pylist() == judged.alerted.tolist()
    assert table["challenger_alerted"].to_pylist() == judged.alerted.tolist(), "there is no challenger"
    assert table["case_opened"].to_pylist() == judged.opens_case.tolist()
    assert table["decided_by"].to_pylist() == [Decider(int(it)).name.lower() for it in judged.decider]
    for name in ("score", "probability", "expected_loss", "threshold"):
        column = getattr(judged, name).astype(np.float64)
        found = table[name].to_numpy()
        np.testing.assert_array_equal(found, column)
    reasons = table["reasons"].to_pylist()
    assert [one is not None for one in reasons] == judged.alerted.tolist()
    by_id = dict(zip(table["transaction_id"].to_pylist(), reasons, strict=True))
    for alert in result.explained:
        assert by_id[alert.transaction_id] == [_as_written(reason) for reason in alert.reasons]
    named = [row for row, its in enumerate(reasons) for one in its or () if one["category"] is not None]
    assert named

    names = dataset.transaction_id.to_pylist()
    names[5] = "4111111111111111"
    renamed = dataset.transaction_id.from_pandas(names)
    other = tmp_path / "struck.parquet"
    struck = write_decisions(_with(result, transaction_id=renamed), other)
    texts = pq.read_table(other)["transaction_id"].to_pylist()
    assert (struck, texts[5]) == (1, "************1111")
    assert all(redact(text) == text for text in texts)

    categories = {name: column.to_pylist() for name, column in dataset.categorical.items()}
    for column in categories.values():
        column[named[0]] = "4111111111111111"
    hostile = {name: pa.array(column, pa.string()) for name, column in categories.items()}
    write_decisions(_with(result, categorical=hostile), other)
    written = pq.read_table(other)["reasons"].to_pylist()[named[0]]
    assert {one["category"] for one in written} == {None, "************1111"}


def _as_written(reason: AlertReason) -> dict[str, Any]:
    """Return a reason with a column for each type that its value may have."""
    is_text = isinstance(reason.value, str)
    values = {"value": None if is_text else reason.value, "category": reason.value if is_text else None}
    return reason.model_dump(exclude={"sentence"}) | values


def _with(result: BacktestResult, **columns: Any) -> BacktestResult:
    return replace(result, dataset=replace(result.dataset, **columns))


def test_a_column_that_gives_the_truth_away_is_named_on_the_page_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pq.read_table(folder / "a.parquet")
    pq.write_table(rows.append_column("chargeback", rows["is_fraud"]), tmp_path / "leaking.parquet")
    settings = SETTINGS.replace('["distance_km"]', '["distance_km", "chargeback"]')
    (tmp_path / "worker.toml").write_text(settings, encoding="utf-8")
    given: list[Dataset] = []

    def judge(settings: Any, dataset: Dataset, **options: Any) -> BacktestResult:
        del settings, options
        given.append(dataset)
        raise SettingsError("enough is known")

    monkeypatch.setattr(offline_backtest, "backtest", judge)
    assert main(command(tmp_path, *TRUTH, file="leaking.parquet")) == SettingsError.exit_code
    assert any("chargeback" in note for note in what_to_know(given[0]))


def test_a_report_is_written_of_the_same_result(
    folder: Path,
    remembered: dict[str, BacktestResult],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    written: list[tuple[BacktestResult, Path, str]] = []
    monkeypatch.setattr(report, "require_plots", lambda: None)
    monkeypatch.setattr(report, "write_backtest", lambda *given: written.append(given))
    path = tmp_path / "page.html"
    assert main(command(folder, *TRUTH, "--report", str(path))) == 0
    assert written == [(*remembered.values(), path, "a.parquet")]


@pytest.mark.usefixtures("remembered")
def test_what_is_refused_is_counted_and_enters_no_figure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (folder / "a.jsonl").read_text(encoding="utf-8").splitlines()[:300]
    lines[3] = lines[3].replace('"card_id":"card', '"card_id":"4111111111111111","ignored":"card')
    path = tmp_path / "b.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    labels = ["--labels", str(folder / "a.labels.jsonl")]
    assert main(["backtest", str(path), "--config", str(folder / "worker.toml"), *labels, "--json"]) == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert (figures["transactions"], figures["n"]) == (299, 299)
    assert figures["refused"] == [
        {"column": "card_id", "reason": "card_number", "rows": 1, "first": 4, "line": None, "allowed": ""}
    ]
    assert "left out, as a live worker refuses it: card_id: card_number in 1 rows, first in row 4" in err
    assert "4111111111111111" not in out + err


def test_delays_are_drawn_for_labels_without_a_time_and_refused_where_each_has_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, config = folder / "a.labels.jsonl", tmp_path / "untimed.toml"
    drawn = ["--labels", str(labels), "--label-delay", "lognormal:30:0.5", "--to", "2024-01-05", "--json"]
    assert main(command(folder, *drawn, file="a.jsonl")) == 2
    assert (
        f"--label-delay draws when labels without a time come, and each of --labels {labels} has a date: leave "
        "--label-delay out, or set label.label_time to a name that no column has, and all are drawn"
    ) in " ".join(capsys.readouterr().err.split())
    worker = (folder / "worker.toml").read_text(encoding="utf-8")
    config.write_text(f'{worker}\n[label]\nlabel_time = "no_such_column"\n', encoding="utf-8")
    assert main(["backtest", str(folder / "a.jsonl"), "--config", str(config), *drawn]) == 0
    out, err = capsys.readouterr()
    assert "no label says when it became known" in err
    # With a median of thirty days hardly a label comes within four; with those of the file, of one day, most do.
    assert json.loads(out)["label_coverage"] < 0.05


def test_delays_are_not_drawn_where_a_column_gives_each_label_its_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = ["--label-delay", "lognormal:30:0.5", "--to", "2024-01-05"]
    assert main(command(folder, *TRUTH, *drawn)) == 2
    assert (
        "has a date in column 'label_time': leave one of --label-delay and --label-time-column out"
    ) in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("remembered")
def test_without_labels_it_says_how_to_name_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(folder, "--to", "2024-01-03")) == 0
    out, err = capsys.readouterr()
    assert "no --fraud-column and no --labels: nothing can be judged" in err
    assert "nothing can be judged: name --fraud-column, or a file by --labels" in out
    assert "All of it is cold start" in out
    assert "What was read spans 2.0 days: to see what the model makes of so little" in " ".join(out.split())
    assert main(command(folder, "--to", "2024-01-03", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["ap"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "x.jsonl", *TRUTH], "--labels and --fraud-column: both say what is fraud"),
        (
            ["--labels", "x.jsonl", "--label-time-column", "known"],
            "--label-time-column is for --fraud-column",
        ),
        (["--label-time-column", "known"], "--label-time-column needs --fraud-column"),
        (["--unlabelled", "legit"], "--unlabelled needs --labels or --fraud-column"),
        (["--out", "decisions.csv"], "--out = 'decisions.csv': the name must end in .parquet"),
        (["--out", "nowhere/decisions.parquet"], "there is no folder 'nowhere'"),
        (["--against", "none.json"], "--against none.json: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_run(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, *options)) == 2
    assert message in capsys.readouterr().err


def test_the_name_of_a_folder_is_refused_before_the_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.parquet").mkdir()
    assert main(command(folder, *TRUTH, "--out", str(tmp_path / "out.parquet"))) == 2
    assert "out.parquet': that is a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label-delay", "lognormal:14"], "is not lognormal:DAYS:SIGMA"),
        (["--label-delay", "lognormal:0:1"], "is not lognormal:DAYS:SIGMA"),
        (["--label-delay", "lognormal:14:1", "--label-delay-days", "3"], "not allowed with argument"),
        (["--declined-share", "1.5"], "'1.5' is not a share from 0 to 1"),
        (["--unlabelled", "fraud"], "invalid choice"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command(folder, *TRUTH, *options))
    assert message in capsys.readouterr().err


def test_shares_of_alerts_that_are_handled_twice_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, *TRUTH, "--declined-share", "0.5", "--answered-share", "0.6")) == 2
    assert "--declined-share 0.5 and --answered-share 0.6" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.00002, "0.0020 % (1 in 50,000)"),
        (0.1, "10.0 % (1 in 10)"),
        (0.0, "0.0 %"),
        (math.nan, "\N{EN DASH}"),
    ],
)
def test_a_prevalence_is_readable_however_small(share: float, text: str) -> None:
    assert prevalence(share) == text


def test_a_delay_of_less_than_a_day_is_written_in_hours() -> None:
    assert [delay(days) for days in (0.0, 0.05, 0.5, 1.0, 7.04)] == [
        "0.0 days",
        "1.2 hours",
        "12.0 hours",
        "1.0 days",
        "7.0 days",
    ]
