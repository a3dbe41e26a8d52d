from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from models.threshold import CostPolicy
from tests.support.comparisons import COSTS, comparison
from worker.offline.compare.recommendation import accuracy_explained, recommend
from worker.offline.compare.result import (
    Block,
    Comparison,
    Figures,
    Row,
    Severity,
)
from worker.offline.compare.strategy import Rule

CHEAP = Figures(
    ap=0.6, roc_auc=0.9, recall=0.7, recall_by_value=0.8, precision=0.3, f1=0.4, cases_per_day=20.0, cost=1_000.0,
    savings=0.6, fit_seconds=1.0, score_us=1.0, excess=0.0, excess_low=0.0, excess_high=0.0,
    excess_error=0.0,
)  # fmt: skip


def row(
    name: str,
    family: str,
    cost: float,
    noise: float,
    block: Block = Block.REFRESHED,
    error: float | None = None,
    **figures: float,
) -> Row:
    excess = cost - CHEAP.cost
    worth = dataclasses.replace(
        CHEAP,
        cost=cost,
        excess=excess,
        excess_low=excess - noise,
        excess_high=excess + noise,
        excess_error=error if error is not None else noise / 2.0,
        **figures,
    )
    return Row(name, family, f"meaning of {name}", block, rule=Rule.HALF, figures=worth)


def words(
    *rows: Row, severity: Severity = Severity.SEVERE, costs: CostPolicy = COSTS
) -> tuple[str | None, str]:
    advised = recommend(rows, costs, severity, 14)
    return advised.strategy, "\n".join(advised.paragraphs)


def test_strategies_without_figures_are_named_beside_the_choice_that_knows_nothing_of_them() -> None:
    late = dataclasses.replace(
        row("boosting", "baselines", 900.0, 10.0), figures=None, left_out="took longer"
    )
    found = row("logistic", "baselines", 1_000.0, 10.0)
    choice, text = words(found, late)
    assert choice == "logistic"
    assert "1 of 2 strategies have no figures here, and may be better (boosting)" in text
    assert "no figures" not in words(found)[1]


@pytest.mark.parametrize(
    ("prevalence", "severity"),
    [
        (0.5, Severity.BALANCED), (0.3, Severity.BALANCED), (0.1, Severity.MILD), (0.0999, Severity.MODERATE),
        (0.01, Severity.MODERATE), (0.00999, Severity.SEVERE), (0.001, Severity.SEVERE), (0.0009, Severity.EXTREME),
        (0.0, Severity.EXTREME),
    ],
)  # fmt: skip
def test_severity_of_a_share(prevalence: float, severity: Severity) -> None:
    assert Severity.of(prevalence) is severity


def test_the_simplest_within_noise_is_recommended() -> None:
    cheapest = row("balanced_forest", "ensembles", 1_000.0, 0.0)
    strategy, text = words(
        cheapest, row("logistic", "nothing", 1_030.0, 80.0), row("smote", "resampling", 1_020.0, 90.0)
    )
    assert strategy == "logistic"
    assert "balanced_forest cost least, 1,000 and saved " in text
    assert "The difference of 30 is within its standard error (95 % interval -50 to 110)" in text
    assert "balanced_forest cost 1,000" in text
    assert "balanced_forest is the cheapest. logistic is within noise of it, and is preferred because" in text
    assert "within noise of the cheapest too" not in text


def test_strategies_that_cost_exactly_as_much_are_named_beside_the_one_that_is_recommended() -> None:
    dearer = row("smote", "resampling", 1_100.0, 20.0)
    logistic, worker = row("logistic", "nothing", 1_000.0, 0.0), row("worker", "worker", 1_000.0, 0.0)
    tied = (row("threshold_tuned", "threshold", 1_000.0, 0.0), logistic, worker)
    strategy, text = words(*tied, dearer)
    assert strategy == "logistic"
    assert "the cheapest (with threshold_tuned, worker, which cost as much), and nothing simpler" in text
    assert "This worker as it would run cost 1,000 and saved 60.0 %: it is one of the cheapest." in text
    assert "cost least" not in text
    assert "It is the cheapest, and nothing simpler" in words(logistic, dearer)[1]
    in_vain = [dataclasses.replace(it, figures=dataclasses.replace(CHEAP, savings=-1.0)) for it in tied]
    assert "The best of them is logistic" in words(*in_vain)[1]
    over = row("smote", "resampling", 900.0, 20.0, cases_per_day=1e6)
    _, text = words(*tied, over, costs=dataclasses.replace(COSTS, alert_budget_cases_per_day=100.0))
    assert re.search(r"It is the cheapest \(with .+, which cost as much\) within the budget of", text)


@pytest.mark.parametrize(
    ("family", "cost", "error", "said"),
    [
        ("ensembles", 1_010.0, 20.0, "is within noise of the cheapest too. logistic is preferred because it is simp"),
        ("ensembles", 1_010.0, 5.0, "cost 20 less than logistic. logistic is within noise of the cheapest, and is pre"),
        ("ensembles", 1_030.0, 50.0, "is within noise of the cheapest too. logistic is preferred because it is simp"),
        ("nothing", 1_035.0, 50.0, "is within noise of the cheapest too. logistic is preferred because it cost less."),
    ],
)  # fmt: skip
def test_advice_that_is_not_taken_though_it_is_near_is_said_to_be_what_the_table_shows(
    family: str, cost: float, error: float, said: str
) -> None:
    _, text = words(
        row("online_logistic", "online", 1_000.0, 0.0),
        row("logistic", "nothing", 1_030.0, 80.0),
        row("balanced_forest", family, cost, 90.0, error=error),
    )
    assert f"balanced_forest {said}" in text


def test_advice_that_costs_the_same_to_the_cent_is_not_called_the_cheapest() -> None:
    _, text = words(
        row("logistic", "nothing", 1_000.0, 0.0), row("balanced_forest", "ensembles", 1_000.0, 0.0)
    )
    assert "balanced_forest cost as little as logistic. logistic is preferred because it is simpler" in text


def test_less_than_a_case_a_day_is_said_as_in_the_table() -> None:
    rare = row("logistic", "nothing", 1_000.0, 0.0, cases_per_day=0.31)
    advised = row("balanced_forest", "ensembles", 1_500.0, 50.0, cases_per_day=0.96)
    _, text = words(rare, advised)
    assert "with a precision of 30.0 % and 0.3 cases a day." in text
    assert "it opens 1 case a day instead of 0.3" in text


@pytest.mark.parametrize("savings", [math.nan, -0.2])
def test_where_nothing_is_saved_a_simpler_choice_is_not_called_the_cheapest(savings: float) -> None:
    best = row("threshold_cost", "threshold", 1_000.0, 0.0, savings=savings)
    _, text = words(best, row("logistic", "nothing", 1_030.0, 80.0, savings=savings))
    assert "The simplest within noise of the cheapest is logistic (meaning of logistic)" in text
    assert "threshold_cost cost least" in text
    assert not re.search("(cheapest|best of them) is logistic", text.replace("noise of the cheapest", ""))
    assert re.search("The (cheapest|best of them) is threshold_cost", words(best)[1])


def test_the_best_of_several_is_said_to_be_chosen_where_it_is_measured() -> None:
    one, other = row("logistic", "nothing", 1_000.0, 0.0), row("smote", "resampling", 1_020.0, 90.0)
    said = "Chosen and measured on the same 14 days: the best of 2 strategies looks better there than it is."
    assert said in words(one, other)[1]
    assert "Chosen and measured" not in words(one)[1]


def test_a_difference_beyond_noise_is_not_forgiven() -> None:
    strategy, text = words(
        row("threshold_cost", "threshold", 1_000.0, 0.0), row("logistic", "nothing", 1_100.0, 80.0)
    )
    assert strategy == "threshold_cost"
    assert "It is the cheapest, and nothing simpler is within one standard error of its cost." in text


def test_noise_is_the_standard_error_and_no_share_of_the_interval() -> None:
    cheapest = row("threshold_cost", "threshold", 1_000.0, 0.0)
    # Of few days the interval is wide: half of its reach would be 80.
    within, beyond = (row("logistic", "nothing", 1_050.0, 160.0, error=error) for error in (50.0, 49.0))
    assert words(cheapest, within)[0] == "logistic"
    assert words(cheapest, beyond)[0] == "threshold_cost"


def test_an_interval_that_includes_0_alone_is_not_enough() -> None:
    strategy, text = words(
        row("threshold_cost", "threshold", 1_000.0, 0.0), row("logistic", "nothing", 1_500.0, 800.0)
    )
    assert strategy == "threshold_cost"
    assert "logistic is simpler still. It cost 500 more than the cheapest" in text
    assert "the interval (-300 to 1,300) includes 0. This test is too short to rule it out" in text


def test_where_the_common_advice_differs_the_table_says_why() -> None:
    advised = row(
        "smote_weights_threshold",
        "combinations",
        4_000.0,
        500.0,
        ap=0.3,
        recall_by_value=0.5,
        cases_per_day=300.0,
    )
    _, text = words(row("threshold_cost", "threshold", 1_000.0, 0.0), advised)
    assert "Frauds are 0.1 to 1 % of the transactions (severe)." in text
    assert "smote_weights_threshold cost 4,000 (AP 0.300, 300 cases a day)" in text
    assert (
        "costs 3,000 more than threshold_cost: it ranks the transactions worse (AP 0.300 against 0.600)"
        in text
    )
    assert "it opens 300 cases a day instead of 20" in text
    assert "it catches 50.0 % of the lost value instead of 80.0 %" in text
    assert "equalised classes make its probabilities too high" in text


def test_where_the_common_advice_holds_that_is_said() -> None:
    _, text = words(row("smote", "resampling", 1_000.0, 0.0), severity=Severity.MODERATE)
    assert "Here it holds: smote cost 1,000" in text


def test_advice_that_was_not_run_is_named() -> None:
    _, text = words(row("logistic", "nothing", 1_000.0, 0.0), severity=Severity.EXTREME)
    assert "None of isolation_forest, one_class_svm has figures here." in text


def test_the_worker_is_placed_even_where_it_is_not_chosen() -> None:
    _, text = words(row("logistic", "nothing", 1_000.0, 0.0), row("worker", "ours", 1_300.0, 100.0))
    assert "This worker as it would run cost 1,300" in text
    assert "beyond noise above the cheapest (95 % interval of the difference 200 to 400)" in text


def test_blocks_are_not_mixed_and_the_refreshed_one_counts() -> None:
    frozen = row("frozen_wonder", "nothing", 10.0, 0.0, Block.FROZEN)
    strategy, text = words(frozen, row("logistic", "nothing", 1_000.0, 0.0))
    assert strategy == "logistic"
    assert "frozen_wonder" not in text
    assert recommend([frozen], COSTS, Severity.SEVERE, 14).block is Block.FROZEN


def test_a_budget_of_cases_excludes_what_opens_more() -> None:
    costs = dataclasses.replace(COSTS, alert_budget_cases_per_day=50.0)
    many = row("near_miss", "resampling", 1_000.0, 0.0, cases_per_day=400.0)
    strategy, text = words(many, row("logistic", "nothing", 1_400.0, 10.0), costs=costs)
    assert strategy == "logistic"
    assert "near_miss is cheaper at 1,000, but opens 400 cases a day, more than the budget of 50." in text


def test_a_single_case_a_day_is_written_as_one() -> None:
    costs = dataclasses.replace(COSTS, alert_budget_cases_per_day=1.0)
    many = row("smote", "resampling", 1_000.0, 0.0, cases_per_day=9.6)
    strategy, text = words(many, row("logistic", "nothing", 1_400.0, 10.0, cases_per_day=0.96), costs=costs)
    assert strategy == "logistic"
    assert "and 1 case a day. It is the cheapest within the budget of 1 case a day." in text
    assert "but opens 9.6 cases a day, more than the budget of 1." in text
    assert "1 cases" not in text


def test_simplicity_does_not_excuse_more_cases_than_the_budget() -> None:
    costs = dataclasses.replace(COSTS, alert_budget_cases_per_day=50.0)
    cheapest = row("smote", "resampling", 1_000.0, 0.0)
    simpler = row("logistic", "nothing", 1_030.0, 80.0, cases_per_day=90.0)
    advised = row("balanced_forest", "ensembles", 2_000.0, 80.0, cases_per_day=60.0)
    strategy, text = words(cheapest, simpler, advised, costs=costs)
    assert strategy == "smote"
    assert "balanced_forest cost 2,000 (AP 0.600, 60 cases a day, over the budget)" in text
    strategy, text = words(simpler, advised, costs=costs)
    assert strategy == "logistic"
    assert "Every strategy opens more cases a day than the budget of 50." in text


FIFTEEN = dataclasses.replace(COSTS, alert_budget_cases_per_day=15.0)
SILENT = row(
    "logistic", "nothing", 6_916.0, 1_500.0, savings=-0.07, recall=0.0, recall_by_value=0.0, precision=math.nan,
    cases_per_day=0.0,
)  # fmt: skip


def test_where_only_what_is_over_the_budget_saves_the_budget_is_the_reason() -> None:
    cheapest = row("threshold_cost", "threshold", 1_000.0, 0.0, cases_per_day=28.4)
    advised = row("smote", "resampling", 1_300.0, 600.0, cases_per_day=34.1)
    strategy, text = words(cheapest, advised, SILENT, severity=Severity.MODERATE, costs=FIFTEEN)
    assert strategy == "logistic"
    assert text.startswith(
        "No strategy within the budget of 15 cases a day saves anything: alerting on nothing,"
    )
    assert "The best of those within it is logistic" in text
    assert "It alerted on nothing. It is the cheapest within the budget of 15 cases a day." in text
    assert (
        "threshold_cost is cheaper at 1,000, but opens 28.4 cases a day, more than the budget of 15." in text
    )
    assert "smote, the best of that advice, opens 34.1 cases a day, more than the budget of 15." in text
    for untrue in ("nan", "No strategy saves", "within noise", "nothing simpler", "simpler to run"):
        assert untrue not in text


def test_within_the_budget_the_cheapest_is_called_no_more_than_that() -> None:
    cheapest = row("balanced_forest", "ensembles", 1_000.0, 0.0, cases_per_day=15.2)
    over, within = (
        row("smote", "resampling", 1_900.0, 80.0, cases_per_day=40.0),
        row("smote_boosting", "resampling", 2_000.0, 9_000.0, cases_per_day=14.0, ap=0.3),
    )
    chosen = row("logistic", "nothing", 1_400.0, 10.0, cases_per_day=9.0)
    strategy, text = words(cheapest, over, within, chosen, severity=Severity.MODERATE, costs=FIFTEEN)
    assert strategy == "logistic"
    assert text.startswith("Use logistic")
    assert "It is the cheapest within the budget of 15 cases a day." in text
    # Rounded, it would be within the budget.
    assert (
        "balanced_forest is cheaper at 1,000, but opens 15.2 cases a day, more than the budget of 15." in text
    )
    assert "smote_boosting, the best of that advice, costs 600 more than logistic: it ranks" in text
    assert "within noise" not in text


def test_a_worker_over_the_budget_is_said_to_be() -> None:
    own = row("worker", "ours", 1_000.0, 0.0, cases_per_day=28.4)
    _, text = words(own, row("logistic", "nothing", 1_400.0, 10.0, cases_per_day=9.0), costs=FIFTEEN)
    assert (
        "cost 1,000 and saved 60.0 %, with 28.4 cases a day, more than the budget: it is the cheapest."
        in text
    )


def test_where_every_strategy_is_over_the_budget_none_is_left_out_for_it() -> None:
    cheapest = row("logistic", "nothing", 1_000.0, 0.0)
    strategy, text = words(cheapest, row("smote", "resampling", 1_500.0, 80.0), costs=FIFTEEN)
    assert strategy == "logistic"
    assert "Every strategy opens more cases a day than the budget of 15." in text
    assert "within the budget" not in text


def test_nothing_is_said_to_save_while_something_within_noise_of_it_does() -> None:
    saving = row("balanced_forest", "ensembles", 1_000.0, 0.0, savings=0.01)
    strategy, text = words(saving, row("logistic", "nothing", 1_030.0, 80.0, savings=-0.02))
    assert strategy == "logistic"
    assert "No strategy saves anything" not in text


def test_where_no_fraud_loses_money_the_costs_are_named_and_no_figure_is_nan() -> None:
    worthless = row("logistic", "nothing", 1_000.0, 0.0, savings=math.nan, recall_by_value=math.nan)
    own = row("worker", "ours", 1_100.0, 10.0, savings=math.nan, recall_by_value=math.nan)
    strategy, text = words(worthless, own)
    assert strategy == "logistic"
    assert text.startswith(
        "By [costs] no fraud of the test window loses money, so there is nothing to save: set costs.missed_fraud_fixed "
        "to what a missed fraud costs whatever its amount. The cheapest is logistic"
    )
    assert (
        "it cost 1,000 in the test window. It caught 70.0 % of the frauds with a precision of 30.0 %" in text
    )
    assert "This worker as it would run cost 1,100: beyond noise above the cheapest" in text
    assert "nan" not in text


def test_what_saves_nothing_is_not_praised() -> None:
    _, text = words(row("logistic", "nothing", 1_000.0, 0.0, savings=-0.25))
    assert text.startswith(
        "No strategy saves anything: alerting on nothing, or on everything, would cost 800."
    )


def test_without_figures_there_is_nothing_to_choose() -> None:
    none = Row("logistic", "nothing", "", Block.FROZEN, left_out="because")
    advised = recommend([none], COSTS, Severity.SEVERE, 14)
    assert (advised.strategy, advised.cheapest) == (None, None)
    assert "nothing to choose from" in advised.paragraphs[0]


def test_where_no_fraud_loses_money_accuracy_is_explained_without_savings() -> None:
    drawn = comparison()
    rows = [
        dataclasses.replace(it, figures=it.figures and dataclasses.replace(it.figures, savings=math.nan))
        for it in drawn.rows
    ]
    text = accuracy_explained(dataclasses.replace(drawn, rows=tuple(rows)))
    assert f"{drawn.recommendation.strategy} catches" in text
    assert "of the frauds, yet by its accuracy" in text
    assert "nan" not in text


def test_accuracy_is_explained_by_the_users_own_numbers() -> None:
    drawn: Comparison = comparison()
    text = accuracy_explained(drawn)
    fraud = drawn.test.fraud
    assert f"right in {int((~fraud).sum()):,} of {len(fraud):,} test transactions" in text
    assert f"an accuracy of {100 * np.mean(~fraud):.1f} %" in text
    assert f"none of the {int(fraud.sum()):,} frauds" in text


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (
            0.852,
            "; its accuracy of 85.2 % beats the 77.9 % of the model that does nothing, and says neither.",
        ),
        (0.783, ", yet by its accuracy of 78.3 % it would hardly beat the model that does nothing."),
        (0.700, ", yet by its accuracy of 70.0 % it would lose to the model that does nothing."),
    ],
)
def test_an_accuracy_is_said_to_hardly_beat_only_what_it_hardly_beats(right: float, said: str) -> None:
    drawn = comparison()
    name, block = drawn.recommendation.strategy, drawn.recommendation.block
    chosen = next(it for it in drawn.block(block) if it.strategy == name)
    assert chosen.decided is not None
    rows = np.arange(1_000) % len(drawn.test)
    fraud, wrong = np.arange(1_000) < 221, np.arange(1_000) >= round(1_000 * right)
    test = dataclasses.replace(drawn.test.take(rows), fraud=fraud)
    decided = dataclasses.replace(chosen.decided.take(rows), alerted=fraud ^ wrong)
    judged = dataclasses.replace(drawn, test=test, rows=(dataclasses.replace(chosen, decided=decided),))
    assert accuracy_explained(judged).endswith(said)
