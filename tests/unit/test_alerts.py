from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.decision import decide
from models.explanation import REASONS
from models.payoff import Payoffs
from models.refit import RefitPlan, forest_job, generation_job
from models.state import ModelState
from models.threshold import BINS, AlertBudget, CostPolicy, histogram
from models.vocabulary import MS_PER_DAY
from tests.support.model_log import DIGEST_EVERY, EAGER, FEATURES, LINEAGE, START_MS, commit
from tests.support.partition import HASHER, HOUR_MS, new_task, transactions
from worker.cycle.contracts import Decided
from worker.identity import Hasher
from worker.kafka_io.committer import Outgoing
from worker.live.alert_writer import AlertWriter
from worker.wire.alert_reasons import OTHER
from worker.wire.decoder import TransactionColumns
from worker.wire.schema import Alert
from worker.wire.sentences import Sentences

PLAN = RefitPlan(MS_PER_DAY, MS_PER_DAY, 256)
COSTS = CostPolicy(review_cost=4.0, loss_fixed=2.0, loss_factor=0.5, alert_budget_cases_per_day=None)
WRITER = AlertWriter("alerts", HASHER)


def a_model(policy_costs: CostPolicy) -> ModelState:
    """With an online model and a forest, learnt from the log."""
    policy = dataclasses.replace(EAGER, costs=policy_costs, min_frauds=5)
    model = ModelState(LINEAGE, policy, DIGEST_EVERY)
    model.fold(0, commit(np.random.default_rng(1), 400))
    rows = np.random.default_rng(2).normal(size=(300, FEATURES)).astype(np.float32)
    for offset, job in enumerate((generation_job(model, PLAN), forest_job(model, rows)), start=1):
        assert job is not None
        model.fold(offset, job())
    return model


@pytest.fixture(scope="module")
def online() -> ModelState:
    return a_model(COSTS)


@pytest.fixture(scope="module")
def forest() -> ModelState:
    """The online model is not trusted, and a day of ranks tells the forest its cut."""
    model = a_model(dataclasses.replace(COSTS, alert_budget_cases_per_day=50.0))
    model.policy = dataclasses.replace(model.policy, min_frauds=10**6)
    model.budget, model.payoffs = AlertBudget(), Payoffs()
    ranks = np.random.default_rng(2).uniform(0, 100, 500)
    for clock_ms in (START_MS, START_MS + MS_PER_DAY):
        model.budget.fold(np.zeros(BINS), histogram(ranks, np.ones(500)), 0, 0, clock_ms)
    return model


def decided(model: ModelState, came: TransactionColumns, folder: Path) -> Decided:
    task = new_task(folder)
    features, first = task.features(came, model)
    scores = decide(model, features, came.amount, came.id_hash, task.clock_after(came))
    scores = task.join_cases(came, scores, model.policy)
    return Decided(came, scores, task.record(came, features, first, scores, model.policy))


def traffic() -> TransactionColumns:
    """Forty transactions, some too small to be worth a review."""
    amount = np.exp(np.random.default_rng(4).uniform(0, 7, 40))
    names = [f"t{row}" for row in range(40)]
    return transactions(names, amount=amount, cards=[f"c{row % 9}" for row in range(40)])


def alerts(sent: list[Outgoing]) -> list[Alert]:
    return [Alert.model_validate_json(one.value) for one in sent]


def test_exactly_the_alerted_transactions_are_written_in_their_order(
    online: ModelState, tmp_path: Path
) -> None:
    batch = decided(online, traffic(), tmp_path)
    expected = [f"t{row}" for row in np.flatnonzero(batch.scores.alerted)]
    assert 0 < len(expected) < 40
    sent = WRITER.write(7, batch, online)
    assert [alert.transaction_id for alert in alerts(sent)] == expected
    assert {(one.topic, one.partition) for one in sent} == {("alerts", 7)}
    assert [one.key for one in sent] == [alert.card_id.encode() for alert in alerts(sent)]


def test_an_alert_that_joins_a_case_is_of_that_case_and_says_what_it_needed(
    online: ModelState, tmp_path: Path
) -> None:
    amount = np.geomspace(0.1, 5_000.0, 40)[::-1]
    names, at_ms = [f"t{row}" for row in range(40)], START_MS + np.arange(40)
    batch = decided(online, transactions(names, at_ms, amount=amount, cards=["c"] * 40), tmp_path)
    ratio, review = batch.scores.ratio, online.policy.costs.review_cost
    joins = (ratio >= 0.1) & (ratio < 1.0)
    assert ratio[0] > 1.0, "the first one opens the case"
    assert 0 < np.count_nonzero(joins) < np.count_nonzero(ratio < 1.0)
    sent = alerts(WRITER.write(0, batch, online))
    assert [alert.transaction_id for alert in sent] == [f"t{row}" for row in np.flatnonzero(ratio >= 0.1)]
    assert len({alert.case_id for alert in sent}) == 1
    assert [alert.threshold for alert in sent] == pytest.approx(
        [review * (0.1 if joins[row] else 1.0) for row in np.flatnonzero(ratio >= 0.1)]
    )


def test_without_an_alert_nothing_is_written(online: ModelState, tmp_path: Path) -> None:
    batch = decided(online, transactions(["a"], amount=[0.0]), tmp_path)
    assert WRITER.write(0, batch, online) == []


def test_an_online_alert_says_what_was_expected_to_be_lost_and_what_a_review_costs(
    online: ModelState, tmp_path: Path
) -> None:
    batch = decided(online, traffic(), tmp_path)
    rows = np.flatnonzero(batch.scores.alerted)
    for row, alert in zip(rows, alerts(WRITER.write(0, batch, online)), strict=True):
        assert alert.decided_by == "online"
        assert alert.amount == batch.transactions.amount[row]
        assert alert.loss == 2.0 + 0.5 * alert.amount
        assert alert.probability == float(batch.scores.probability[row])
        assert alert.expected_loss == pytest.approx(alert.probability * alert.loss)
        joined = batch.scores.ratio[row] < 1.0
        assert (alert.threshold, alert.review_cost) == (pytest.approx(0.4) if joined else 4.0, 4.0)
        assert alert.joins_case == joined
        assert alert.expected_loss is not None
        assert alert.expected_loss >= alert.threshold
        assert alert.model_version == f"{LINEAGE.id}-2"
        assert alert.event_time_ms == START_MS + row * HOUR_MS
        assert alert.currency is None


def test_the_reasons_of_an_online_alert_and_its_reference_sum_to_the_logit(
    online: ModelState, tmp_path: Path
) -> None:
    batch = decided(online, traffic(), tmp_path)
    rows = np.flatnonzero(batch.scores.alerted)
    for row, alert in zip(rows, alerts(WRITER.write(0, batch, online)), strict=True):
        assert alert.reference is not None
        total = alert.reference + sum(reason.contribution for reason in alert.reasons)
        assert total == pytest.approx(float(batch.scores.logit[row]), abs=1e-5)


def test_the_largest_contributions_are_named_with_their_values_and_the_rest_as_one(
    online: ModelState, tmp_path: Path
) -> None:
    batch = decided(online, traffic(), tmp_path)
    row = int(np.flatnonzero(batch.scores.alerted)[0])
    alert = alerts(WRITER.write(0, batch, online))[0]
    assert online.online is not None
    contributions = online.online.contributions(batch.rows.features[row : row + 1])[0]
    order = sorted(range(FEATURES), key=lambda feature: -contributions[feature])
    names, texts = online.layout.names, online.layout.texts
    assert [reason.feature for reason in alert.reasons] == [*(names[one] for one in order[:REASONS]), OTHER]
    for feature, reason in zip(order, alert.reasons[:-1], strict=False):
        value = batch.rows.features[row, feature]
        unnamed = np.isnan(value) or online.layout.categorical[feature]
        assert (reason.text, reason.value) == (texts[feature], None if unnamed else float(value))
        assert reason.contribution == pytest.approx(contributions[feature])
    assert alert.reasons[-1].value is None
    assert alert.reasons[-1].contribution == pytest.approx(contributions[order[REASONS:]].sum())


def with_texts(came: TransactionColumns, **texts: list[str | None]) -> TransactionColumns:
    columns = [pa.array(values, pa.string()) for values in texts.values()]
    return dataclasses.replace(came, texts=pa.StructArray.from_arrays(columns, names=[*texts]))


def test_a_category_is_a_reason_that_says_its_value(
    online: ModelState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.explanation.REASONS", FEATURES)
    came = traffic()
    channels = [f"channel-{row}" if row % 2 else None for row in range(len(came))]
    batch = decided(online, with_texts(came, channel=channels), tmp_path)
    found = 0
    for row, alert in zip(
        np.flatnonzero(batch.scores.alerted), alerts(WRITER.write(0, batch, online)), strict=True
    ):
        [reason] = [reason for reason in alert.reasons if reason.feature == "channel"]
        assert reason.value == channels[row]
        assert reason.sentence == f"channel is {channels[row] or 'missing'}"
        found += channels[row] is not None
    assert found


def test_every_reason_is_a_sentence_in_an_analysts_words(online: ModelState, tmp_path: Path) -> None:
    batch = decided(online, traffic(), tmp_path)
    sentences = Sentences(LINEAGE.spec)
    rows = np.flatnonzero(batch.scores.alerted)
    for row, alert in zip(rows, alerts(WRITER.write(0, batch, online)), strict=True):
        *named, other = alert.reasons
        for reason in named:
            feature = online.layout.names.index(reason.feature)
            if not online.layout.categorical[feature]:
                assert reason.sentence == sentences.of(feature, batch.rows.features[row].tolist(), None)
        assert other.sentence == "all other features together"


@pytest.mark.parametrize(
    ("number", "carried"),
    [
        (4111111111111111.0, False),
        (4111111111111111.5, False),
        (-41111111111111.11, False),
        (0.4111111111111111, True),
        (411111.1111111111, True),
        (1704067200000.5, True),
    ],
)
def test_a_number_with_the_digits_of_a_card_is_not_carried_and_a_fraction_is(
    online: ModelState, tmp_path: Path, number: float, carried: bool
) -> None:
    came = dataclasses.replace(transactions(["a"], amount=[900.0]), numeric=np.array([[number, 1.0, 2.0]]))
    [alert] = alerts(
        AlertWriter("alerts", HASHER, ("age",)).write(0, decided(online, came, tmp_path), online)
    )
    assert alert.fields == {"age": number if carried else None}


def test_an_alert_carries_the_fields_that_the_settings_name_and_no_card_number(
    online: ModelState, tmp_path: Path
) -> None:
    card_number = "4111111111111111"
    came = with_texts(
        transactions(["a", "b"], amount=[900.0, 900.0]),
        channel=["web", f"pan {card_number}"],
        merchant=["m-1", None],
        device=["d-1", "d-2"],
    )
    numeric = np.array([[31.5, 1.0, 2.0], [float(card_number), 1.0, 2.0]])
    came = dataclasses.replace(came, numeric=numeric)
    writer = AlertWriter("alerts", HASHER, ("age", "channel", "merchant"))
    one, other = alerts(writer.write(0, decided(online, came, tmp_path), online))
    assert one.fields == {"age": 31.5, "channel": "web", "merchant": "m-1"}
    assert other.fields == {"age": None, "channel": "pan ************1111", "merchant": None}
    assert card_number not in other.to_json().decode()
    [plain, _] = alerts(WRITER.write(0, decided(online, came, tmp_path / "2"), online))
    assert plain.fields == {}


def test_a_forest_alert_claims_no_probability_and_no_more_than_its_score(
    forest: ModelState, tmp_path: Path
) -> None:
    batch = decided(forest, traffic(), tmp_path)
    rows = np.flatnonzero(batch.scores.alerted)
    assert 0 < len(rows) < 40
    assert forest.forest is not None
    for row, alert in zip(rows, alerts(WRITER.write(0, batch, forest)), strict=True):
        assert (alert.decided_by, alert.probability, alert.expected_loss) == ("forest", None, None)
        assert alert.reference is None
        assert alert.forest_score == float(batch.scores.forest_score[row])
        assert alert.forest_rank == pytest.approx(alert.forest_score * alert.amount)
        assert alert.forest_rank is not None
        assert alert.forest_rank >= alert.threshold == batch.scores.forest_cut
        contributions = forest.forest.reasons(batch.rows.features[row : row + 1])[0]
        assert alert.reasons[0].contribution == pytest.approx(contributions.max())
        assert sum(reason.contribution for reason in alert.reasons) == pytest.approx(contributions.sum())


def ids_of(
    model: ModelState, came: TransactionColumns, folder: Path, hasher: Hasher = HASHER
) -> list[tuple[str, str]]:
    written = alerts(AlertWriter("alerts", hasher).write(0, decided(model, came, folder), model))
    return [(alert.alert_id, alert.case_id) for alert in written]


def test_the_alert_id_is_a_function_of_card_transaction_id_and_key_alone(
    online: ModelState, forest: ModelState, tmp_path: Path
) -> None:
    one = transactions(["a"], [START_MS], amount=[400.0], cards=["x"])
    other = transactions(["a"], [START_MS + MS_PER_DAY], amount=[1e6], cards=["x"], first_offset=99)
    first, again = ids_of(online, one, tmp_path / "1"), ids_of(forest, other, tmp_path / "2")
    assert first[0][0] == again[0][0] == HASHER.alert_id("x", "a")
    elsewhere = transactions(["a"], [START_MS], amount=[400.0], cards=["y"])
    assert ids_of(online, elsewhere, tmp_path / "5")[0][0] != first[0][0], "two cards, two alerts"
    assert ids_of(online, one, tmp_path / "3", Hasher((3, 4)))[0][0] != first[0][0]
    renamed = dataclasses.replace(one, transaction_id=pa.array(["b"]))
    assert ids_of(online, renamed, tmp_path / "4")[0][0] != first[0][0]


def test_alerts_of_a_card_within_one_window_share_their_case_and_no_others_do(
    online: ModelState, tmp_path: Path
) -> None:
    at = [START_MS, START_MS + MS_PER_DAY - 1, START_MS + MS_PER_DAY, START_MS + 5]
    came = transactions([*"abcd"], at, amount=[900.0] * 4, cards=["x", "x", "x", "y"])
    cases = [case for _, case in ids_of(online, came, tmp_path)]
    assert len(cases) == 4
    assert cases[0] == cases[1]
    assert len(set(cases)) == 3


def test_an_alert_dated_years_ahead_belongs_to_the_case_of_its_arrival(
    online: ModelState, tmp_path: Path
) -> None:
    at = [START_MS, START_MS + 9 * 365 * MS_PER_DAY]
    came = transactions(["a", "b"], at, amount=[900.0] * 2, cards=["x", "x"], timestamps_ms=[START_MS] * 2)
    (_, one), (_, other) = ids_of(online, came, tmp_path)
    assert one == other


def test_headers_are_those_of_a_cloud_event(online: ModelState, tmp_path: Path) -> None:
    came = transactions(["a"], [START_MS + 1_234], amount=[900.0])
    (sent,) = WRITER.write(0, decided(online, came, tmp_path), online)
    headers = {name: value.decode() for name, value in sent.headers}
    when = datetime.fromisoformat(headers.pop("ce_time"))
    assert when.timestamp() * 1000 == START_MS + 1_234
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": HASHER.alert_id("card of a", "a"),
        "ce_type": "fraud.alert.v1",
        "ce_source": "fraud-worker",
        "content-type": "application/json",
    }


def test_a_currency_is_carried_where_the_transaction_has_one(online: ModelState, tmp_path: Path) -> None:
    came = transactions(["a", "b"], amount=[900.0, 900.0])
    came = dataclasses.replace(came, currency=pa.array(["EUR", None]))
    written = alerts(WRITER.write(0, decided(online, came, tmp_path), online))
    assert [alert.currency for alert in written] == ["EUR", None]


def test_an_alert_is_json_without_nan(online: ModelState, tmp_path: Path) -> None:
    for sent in WRITER.write(0, decided(online, traffic(), tmp_path), online):
        json.loads(sent.value, parse_constant=pytest.fail)
