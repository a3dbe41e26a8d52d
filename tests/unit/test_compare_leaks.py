from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from tests.support.fake_strategies import run_here
from worker.errors import SettingsError
from worker.offline.compare.comparing import Options, compare
from worker.offline.compare.leaks import cleaned
from worker.offline.compare.ours import OWN_ROWS
from worker.offline.compare.prepared import prepare
from worker.offline.compare.registry import chosen
from worker.offline.compare.result import Block, Comparison, Figures
from worker.offline.compare.windows import Shares, learnable
from worker.offline.dataset import NEVER, Dataset
from worker.offline.label_file import LabelMatches
from worker.offline.refusals import Refusal
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate

WEEK_MS = 7 * MS_PER_DAY
TRAFFIC = Traffic(cards=60, merchants=20, days=50, per_card_day=2.0, prevalence=0.06, seed=4)
# The online model is in no row here, so none is made.
SETTINGS = Settings(entity_key="0f" * 16, transaction=FIELDS, model={"min_frauds": 1_000_000})
OPTIONS = Options(strategies=list(chosen(["logistic"]).values()), own_rows=[], features="raw", run=run_here)


def drawn() -> Dataset:
    """Return simulated traffic whose every label arrives after a week."""
    dataset = simulate(TRAFFIC)
    return dataclasses.replace(dataset, label_time_ms=dataset.event_time_ms + WEEK_MS)


DATA = drawn()


def run(dataset: Dataset, **options: object) -> Comparison:
    settings = SETTINGS.model_copy(update={"transaction": dataset.fields})
    return compare(settings, dataset, dataclasses.replace(OPTIONS, **options), "test")  # type: ignore[arg-type]


def honest_figures(comparison: Comparison) -> list[Figures | None]:
    """Return the figures without what depends on the machine."""
    return [
        None if row.figures is None else dataclasses.replace(row.figures, fit_seconds=0.0, score_us=0.0)
        for row in comparison.rows
    ]


@pytest.fixture(scope="module")
def honest() -> list[Figures | None]:
    return honest_figures(run(DATA))


def with_numeric(dataset: Dataset, name: str, values: NDArray[np.float64]) -> Dataset:
    fields = dataset.fields.model_copy(update={"numeric": (*dataset.fields.numeric, name)})
    return dataclasses.replace(dataset, fields=fields, numeric={**dataset.numeric, name: values})


def truth(dataset: Dataset) -> NDArray[np.float64]:
    assert dataset.is_fraud is not None
    return dataset.is_fraud.astype(np.float64)


def test_a_column_that_holds_the_label_of_the_future_moves_no_figure(honest: list[Figures | None]) -> None:
    leaky = with_numeric(DATA, "chargeback_code", 100.0 - truth(DATA))
    caught = run(leaky)
    assert honest_figures(caught) == honest
    assert "chargeback_code" not in caught.feature_names
    assert any("'chargeback_code' alone tells fraud from legit" in note for note in caught.notes)
    believed = run(leaky, trust_columns=True)
    figures = [row.figures for row in believed.rows if row.figures is not None]
    assert min(figure.ap for figure in figures) > 0.99


def test_a_label_dated_before_its_transaction_moves_no_figure() -> None:
    # Labels arrive after 5 to 9 days, but for some that are dated wrongly.
    rng = np.random.default_rng(1)
    delays_ms = rng.integers(5 * MS_PER_DAY, 9 * MS_PER_DAY, len(DATA))
    early = rng.random(len(DATA)) < 0.2
    right = dataclasses.replace(DATA, label_time_ms=DATA.event_time_ms + np.where(early, WEEK_MS, delays_ms))
    wrong = dataclasses.replace(
        DATA, label_time_ms=DATA.event_time_ms + np.where(early, -MS_PER_DAY, delays_ms)
    )
    caught = run(wrong)
    assert honest_figures(caught) == honest_figures(run(right))
    assert any(f"{int(early.sum()):,} labels are dated at or before" in note for note in caught.notes)


def test_duplicates_across_windows_move_no_figure(honest: list[Figures | None]) -> None:
    rng = np.random.default_rng(2)
    copied = rng.choice(len(DATA) // 2, 400, replace=False)
    later_ms = DATA.event_time_ms[-1] - rng.integers(0, 5 * MS_PER_DAY, len(copied))
    rows = np.concatenate([np.arange(len(DATA)), copied])
    doubled = DATA.take(rows)
    times_ms = np.concatenate([DATA.event_time_ms, later_ms])
    doubled = dataclasses.replace(doubled, event_time_ms=times_ms, label_time_ms=times_ms + WEEK_MS).take(
        np.argsort(times_ms, kind="stable")
    )
    caught = run(doubled)
    assert honest_figures(caught) == honest
    assert any("400 transactions repeat an earlier transaction id" in note for note in caught.notes)


@pytest.mark.parametrize("give_away", ["present", "absent", "text"])
def test_any_column_that_knows_the_truth_is_found(give_away: str) -> None:
    fraud = truth(DATA) > 0
    if give_away == "text":
        fields = DATA.fields.model_copy(update={"categorical": (*DATA.fields.categorical, "leak")})
        words = pa.array(np.where(fraud, "blocked", np.where(np.arange(len(DATA)) % 2, "paid", "open")))
        leaky = dataclasses.replace(DATA, fields=fields, categorical={**DATA.categorical, "leak": words})
    else:
        filled = fraud if give_away == "present" else ~fraud
        leaky = with_numeric(DATA, "leak", np.where(filled, 5.0, np.nan))
    found = cleaned(leaky, WEEK_MS, trust_columns=False)
    assert "leak" not in (*found.dataset.fields.numeric, *found.dataset.fields.categorical)
    assert len(found.notes) == 1


def with_text(dataset: Dataset, kind: str, name: str, texts: list[str | None]) -> Dataset:
    fields = dataset.fields.model_copy(update={kind: (*getattr(dataset.fields, kind), name)})
    columns = {**getattr(dataset, kind), name: pa.array(texts, pa.string())}
    return dataclasses.replace(dataset, fields=fields, **{kind: columns})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "legit"), [("categorical", None), ("categorical", "none"), ("entities", None)]
)
def test_a_reference_of_its_own_for_each_fraud_is_found(
    kind: str, legit: str | None, honest: list[Figures | None]
) -> None:
    texts = [f"cb-{row}" if fraud else legit for row, fraud in enumerate(truth(DATA))]
    caught = run(with_text(DATA, kind, "chargeback", texts))
    assert any("'chargeback' alone tells fraud from legit" in note for note in caught.notes)
    assert honest_figures(caught) == honest


def test_what_is_joined_of_a_column_that_is_left_out_goes_with_it() -> None:
    texts = [f"cb-{row}" if fraud else None for row, fraud in enumerate(truth(DATA))]
    leaky = with_text(DATA, "entities", "chargeback", texts)
    joined = leaky.fields.model_copy(update={"combined": (f"chargeback+{DATA.fields.card_id}",)})
    found = cleaned(dataclasses.replace(leaky, fields=joined), WEEK_MS, trust_columns=False)
    assert found.dataset.fields.combined == ()


def test_a_place_goes_with_its_leaky_coordinate() -> None:
    located = with_numeric(with_numeric(DATA, "lon", truth(DATA).astype(float)), "lat", np.zeros(len(DATA)))
    placed = dataclasses.replace(located, fields=located.fields.model_copy(update={"place": ("lat", "lon")}))
    found = cleaned(placed, WEEK_MS, trust_columns=False)
    assert "lon" not in found.dataset.fields.numeric
    assert found.dataset.fields.place == ()


def test_a_column_that_nearly_separates_is_named_with_its_figure_and_kept() -> None:
    rng = np.random.default_rng(5)
    near = with_numeric(DATA, "risk", truth(DATA) + rng.normal(0.0, 0.24, len(DATA)))
    found = cleaned(near, WEEK_MS, trust_columns=False)
    assert "risk" in found.dataset.fields.numeric
    [note] = found.notes
    assert note.startswith("column 'risk' alone reaches an average precision of 0.9")
    assert cleaned(near, WEEK_MS, trust_columns=True).notes == ()


def test_of_a_handful_of_frauds_no_column_of_noise_is_named() -> None:
    """Of 300 columns some rank a single fraud among the first hundredth."""
    rng, one = np.random.default_rng(7), np.zeros(len(DATA), np.bool_)
    one[len(DATA) // 2] = True
    noisy = dataclasses.replace(DATA, is_fraud=one)
    for at in range(300):
        noisy = with_numeric(noisy, f"v{at}", rng.standard_normal(len(DATA)))
    assert cleaned(noisy, WEEK_MS, trust_columns=False).notes == ()


def test_where_nearly_all_known_truth_is_fraud_no_column_of_noise_is_left_out_or_named() -> None:
    """The average precision of noise is then as high as the share of fraud."""
    rng = np.random.default_rng(7)
    named = np.arange(len(DATA)) % 200 != 0
    noisy = dataclasses.replace(with_numeric(DATA, "noise", rng.standard_normal(len(DATA))), is_fraud=named)
    found = cleaned(noisy, WEEK_MS, trust_columns=False)
    assert found.notes == ()
    assert "noise" in found.dataset.numeric


def test_a_column_that_only_some_frauds_have_is_named() -> None:
    half = (truth(DATA) > 0) & (np.arange(len(DATA)) % 2 == 0)
    some = with_numeric(DATA, "refund", np.where(half, DATA.amount, np.nan))
    [note] = cleaned(some, WEEK_MS, trust_columns=False).notes
    assert note.startswith(
        f"column 'refund' is filled in for {half.sum()} frauds and hardly a legit transaction"
    )


def test_a_column_of_few_values_that_only_frauds_have_is_named_though_each_value_has_few() -> None:
    frauds = np.flatnonzero(truth(DATA))[::2]
    reason = np.full(len(DATA), np.nan)
    reason[frauds] = np.arange(len(frauds)) % 20
    [note] = cleaned(with_numeric(DATA, "reason", reason), WEEK_MS, trust_columns=False).notes
    assert note.startswith(f"column 'reason' is filled in for {len(frauds)} frauds and hardly a legit")


@pytest.mark.parametrize(
    ("values", "state"),
    [((1.0, 0.0), "1"), ((np.nan, 7.0), "missing"), (("disputed", "none"), "'disputed'")],
    ids=["a number", "a gap", "a text"],
)
def test_a_flag_of_some_frauds_is_named_though_it_is_filled_in_everywhere(
    values: tuple[Any, Any], state: str
) -> None:
    """It ranks the other frauds no better than any legit, so that neither average precision nor AUC shows it."""
    half = (truth(DATA) > 0) & (np.arange(len(DATA)) % 2 == 0)
    flag = [values[0] if it else values[1] for it in half]
    if isinstance(values[0], str):
        fields = DATA.fields.model_copy(update={"categorical": (*DATA.fields.categorical, "flag")})
        some = dataclasses.replace(
            DATA, fields=fields, categorical={**DATA.categorical, "flag": pa.array(flag)}
        )
    else:
        some = with_numeric(DATA, "flag", np.array(flag))
    [note] = cleaned(some, WEEK_MS, trust_columns=False).notes
    assert note.startswith(f"column 'flag' is {state} for {half.sum()} frauds and hardly a legit transaction")


def test_copies_under_ids_of_their_own_move_no_figure(honest: list[Figures | None]) -> None:
    frauds = np.flatnonzero(truth(DATA))
    rows = np.sort(np.concatenate([np.arange(len(DATA)), np.repeat(frauds, 5)]))
    again = np.concatenate([[False], rows[1:] == rows[:-1]])
    ids = [
        f"{name}-{at}" if repeat else name
        for at, (name, repeat) in enumerate(
            zip(DATA.take(rows).transaction_id.to_pylist(), again, strict=True)
        )
    ]
    oversampled = dataclasses.replace(DATA.take(rows), transaction_id=pa.array(ids))
    caught = run(oversampled)
    assert honest_figures(caught) == honest
    copies = 5 * len(frauds)
    assert any(
        note.startswith(f"{copies:,} transactions ({copies:,} of them frauds)") for note in caught.notes
    )


@pytest.mark.parametrize("step_ms", [MS_PER_DAY, 3_600_000, 60_000])
def test_equal_payments_are_kept_where_times_name_no_second(step_ms: int) -> None:
    """Card testing: three payments of one amount on one card, within the day, the hour or the minute of the file."""
    frauds = np.flatnonzero(truth(DATA))
    tested = DATA.take(np.sort(np.concatenate([np.arange(len(DATA)), np.repeat(frauds, 2)])))
    tested = dataclasses.replace(
        tested,
        transaction_id=pa.array([f"t{at}" for at in range(len(tested))]),
        event_time_ms=tested.event_time_ms // step_ms * step_ms,
    )
    found = cleaned(tested, WEEK_MS, trust_columns=False)
    assert len(found.dataset) == len(tested)
    [note] = found.notes
    assert note.startswith(f"{2 * len(frauds):,} transactions ({2 * len(frauds):,} of them frauds)")
    assert "kept" in note


def test_honest_columns_identifiers_and_constants_are_kept() -> None:
    rng = np.random.default_rng(3)
    good = with_numeric(DATA, "score_of_rules", truth(DATA) + rng.normal(0.0, 0.7, len(DATA)))
    constant = with_numeric(good, "constant", np.full(len(DATA), 1.0))
    fields = constant.fields.model_copy(update={"categorical": (*DATA.fields.categorical, "session")})
    unique = pa.array([f"s{number}" for number in range(len(DATA))])
    dataset = dataclasses.replace(
        constant, fields=fields, categorical={**DATA.categorical, "session": unique}
    )
    assert cleaned(dataset, WEEK_MS, trust_columns=False).notes == ()


def test_columns_without_a_value_and_a_category_for_each_row_and_infinities_are_no_traceback(
    honest: list[Figures | None],
) -> None:
    empty = with_numeric(DATA, "empty", np.full(len(DATA), np.nan))
    comparison = run(empty)
    assert "feature 'empty' is always missing: left out" in comparison.notes
    assert honest_figures(comparison) == honest
    strange = with_numeric(DATA, "infinite", np.where(np.arange(len(DATA)) % 2, np.inf, -1e300))
    fields = strange.fields.model_copy(update={"categorical": ("session",)})
    unique = pa.array([f"s{number}" for number in range(len(DATA))])
    many = dataclasses.replace(strange, fields=fields, categorical={"session": unique})
    assert all(row.figures is not None or row.left_out for row in run(many).rows)


def test_frauds_alone_labelled_make_silence_legitimate() -> None:
    assert DATA.is_fraud is not None
    only_frauds = dataclasses.replace(
        DATA, label_time_ms=np.where(DATA.is_fraud, DATA.event_time_ms + WEEK_MS, np.iinfo(np.int64).max)
    )
    comparison = run(only_frauds)
    assert comparison.known == len(DATA)
    assert any(
        "a transaction without a label or an outcome counts as legitimate" in note
        for note in comparison.notes
    )
    # A backtest of the same file would say so.
    assert not any("every transaction of known truth is a fraud" in note for note in comparison.notes)


def test_what_the_file_lacks_and_what_is_odd_in_it_is_among_the_notes() -> None:
    money = pa.array(["EUR", "JPY"] * (len(DATA) // 2) + ["EUR"] * (len(DATA) % 2))
    odd = dataclasses.replace(
        DATA,
        currency=money,
        refused=(Refusal("amount", "missing_field", 3, 7, line=8),),
        matches=LabelMatches(labels=90, outcomes=0, unmatched=4, examples=("x",), superseded=0),
    )
    notes = run(odd).to_json()["notes"]
    assert (
        notes[0] == "left out, as a live worker refuses it: amount: missing_field in 3 rows, first in line 8"
    )
    assert notes[1] == "4 of 90 labels find no transaction"
    assert notes[2].startswith("amounts are in 2 currencies (EUR, JPY)")


def test_labels_that_are_dated_early_are_said_once_to_be_moved() -> None:
    early = np.arange(len(DATA)) % 10 == 0
    moved = dataclasses.replace(
        DATA,
        label_time_ms=DATA.event_time_ms + np.where(early, 0, WEEK_MS),
        early_labels=int(early.sum()),
    )
    said = [note for note in run(moved).notes if "labels are dated" in note]
    assert said == [
        f"{early.sum():,} labels are dated at or before their transaction: taken to have arrived 7 days after it"
    ]


def test_rows_without_truth_are_neither_learnt_nor_judged() -> None:
    unknown = np.arange(len(DATA)) % 4 == 0
    half = dataclasses.replace(
        DATA, label_time_ms=np.where(unknown, np.iinfo(np.int64).max, DATA.event_time_ms + WEEK_MS)
    )
    comparison = run(half)
    assert comparison.known == int((~unknown).sum())
    assert np.isin(comparison.test.event_time_ms, DATA.event_time_ms[~unknown]).all()
    train = next(window for window in comparison.windows if window.name == "train")
    assert all(row.rows_learnt == train.rows for row in comparison.rows[:1])


def test_cases_a_day_are_as_many_whether_or_not_their_truth_is_known() -> None:
    options: dict[str, Any] = {
        "strategies": list(chosen(["logistic", "weights_balanced"]).values()),
        "own_rows": [it for it in OWN_ROWS if it.name == "forest"],
    }
    whole = run(DATA, **options)
    window = next(it for it in whole.windows if it.name == "test")
    # Of the test window alone: frozen strategies learn nothing of it.
    unknown = (DATA.event_time_ms >= window.start_ms) & (np.arange(len(DATA)) % 3 == 0)
    label_ms = np.where(unknown, NEVER, DATA.event_time_ms + WEEK_MS)
    some = run(dataclasses.replace(DATA, label_time_ms=label_ms), **options)
    assert len(some.test) == len(whole.test) - unknown.sum() == len(whole.test) - some.unjudged
    for before, after in zip(whole.block(Block.FROZEN), some.block(Block.FROZEN), strict=True):
        assert before.figures is not None
        assert after.figures is not None
        assert after.decided is not None
        assert after.figures.cases_per_day == before.figures.cases_per_day
        assert len(after.decided) == len(some.test)
        assert after.figures.cost < before.figures.cost
    # Those of known truth alone are fewer.
    balanced = some.block(Block.FROZEN)[1]
    assert balanced.figures is not None
    assert balanced.decided is not None
    days = (window.end_ms - window.start_ms) // MS_PER_DAY
    assert (
        len(np.unique(some.test.case[balanced.decided.alerted])) / days < 0.9 * balanced.figures.cases_per_day
    )
    said = (
        f"cases a day, which the budget bounds, are of all {len(whole.test):,} test transactions; the other figures "
        f"are of the {len(some.test):,} whose truth is known"
    )
    assert said in some.notes
    assert not any("cases a day" in note for note in whole.notes)


def test_strategies_see_the_budget_and_all_rows_from_the_tune_window_on() -> None:
    """Cases of transactions whose truth is unknown are as many to review as others."""
    unknown = np.arange(len(DATA)) % 4 == 0
    some = dataclasses.replace(DATA, label_time_ms=np.where(unknown, NEVER, DATA.event_time_ms + WEEK_MS))
    costs = SETTINGS.costs.model_copy(update={"alert_budget_cases_per_day": 3.5})
    settings = SETTINGS.model_copy(update={"transaction": DATA.fields, "costs": costs})
    material = prepare(settings, some, "raw", own_rows=False).material
    assert material.budget_cases_per_day == 3.5
    windows, times_ms = material.windows, some.event_time_ms
    seen = (times_ms >= windows.tune_ms) | ((times_ms >= windows.train_ms) & ~unknown)
    np.testing.assert_array_equal(material.event_time_ms, times_ms[seen])


def test_where_labels_name_frauds_alone_a_declined_payment_is_not_legitimate() -> None:
    """No one learns what it would have been, whatever a row without a label counts as."""
    assert DATA.is_fraud is not None
    declined = (np.arange(len(DATA)) % 5 == 0) & ~DATA.is_fraud
    frauds = dataclasses.replace(
        DATA,
        label_time_ms=np.where(DATA.is_fraud, DATA.event_time_ms + WEEK_MS, NEVER),
        outcome_time_ms=np.where(declined, DATA.event_time_ms, NEVER),
    )
    settings = SETTINGS.model_copy(update={"transaction": DATA.fields})
    prepared = prepare(settings, frauds, "raw", own_rows=False)
    np.testing.assert_array_equal(prepared.laid.usable, ~declined)


def test_in_a_file_with_unknown_truth_no_later_label_chooses_what_was_learnt_before() -> None:
    rng = np.random.default_rng(6)
    delays_ms = rng.integers(MS_PER_DAY, 12 * MS_PER_DAY, len(DATA))
    label_ms = np.where(rng.random(len(DATA)) < 0.3, NEVER, DATA.event_time_ms + delays_ms)
    some = dataclasses.replace(DATA, label_time_ms=label_ms)
    settings = SETTINGS.model_copy(update={"transaction": DATA.fields})
    whole = prepare(settings, some, "raw", own_rows=False).material
    windows = whole.windows
    today = dataclasses.replace(some, label_time_ms=np.where(label_ms > windows.tune_ms, NEVER, label_ms))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.offline.compare.windows.LEAST_FRAUDS", 0)
        then = prepare(settings, today, "raw", own_rows=False).material
    assert then.windows == windows
    from_whole, from_then = (
        it.event_time_ms[learnable(it.event_time_ms, it.verdicts, 0, windows.tune_ms, windows.tune_ms)]
        for it in (whole, then)
    )
    np.testing.assert_array_equal(from_whole, from_then)


@pytest.mark.parametrize(
    ("is_fraud", "said"),
    [
        (False, f"the file has no fraud at all: by column 'stolen' none of the {len(DATA):,} transactions whose trut"),
        (True, f"the file has no legitimate transaction: by column 'stolen' each of the {len(DATA):,} transactions w"),
    ],
)  # fmt: skip
def test_one_class_only_is_refused_with_the_column_that_says_so(is_fraud: bool, said: str) -> None:
    one_class = dataclasses.replace(DATA, is_fraud=np.full(len(DATA), is_fraud), truth_from="column 'stolen'")
    with pytest.raises(SettingsError) as refused:
        run(one_class)
    assert str(refused.value).startswith(said)
    assert "fraud, 1, true, t, yes, y" in str(refused.value)
    assert "in time" not in str(refused.value)


def test_a_refused_window_names_proportions_that_would_do_and_these_do() -> None:
    day = (DATA.event_time_ms - DATA.event_time_ms[0]) // MS_PER_DAY
    days = int(day[-1]) + 1
    # Of the usual windows, the one to tune has no fraud.
    spared = dataclasses.replace(
        DATA, is_fraud=truth(DATA).astype(np.bool_) & ((day < 0.58 * days) | (day > 0.8 * days))
    )
    with pytest.raises(
        SettingsError, match=r"the tune window.* by --windows, of which [\d,]+ would do"
    ) as refused:
        run(spared)
    named = re.findall(r"of which ([\d,]+) would do", str(refused.value))[0]
    assert run(spared, shares=Shares(*map(float, named.split(",")))).rows


def test_ten_rows_are_refused_in_words() -> None:
    with pytest.raises(SettingsError, match="a comparison needs 30"):
        run(DATA.take(np.arange(10)))
