"""The classic mistakes of imbalanced learning, made on purpose: what each would have reported, and what is true.

The honest figure is always of the same windows in time as the comparison's: trained on verdicts that had arrived,
judged later at natural prevalence by every label there is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from models.evaluation import average_precision
from worker.offline.compare.engine import capped
from worker.offline.compare.families.fitted import Fitted, explained
from worker.offline.compare.families.nothing import boosting, logistic
from worker.offline.compare.families.preparation import Preparation, coded, finite, imputed, scaled
from worker.offline.compare.families.resampling import SMOTE_FRAUDS, oversampler, resampled, smote
from worker.offline.compare.material import Material
from worker.offline.compare.registry import strategy_named
from worker.offline.compare.rules import Alerting, with_joins
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import LeftOutError, Rule, Strategy
from worker.offline.compare.windows import learnable
from worker.offline.dataset import NEVER
from worker.progress import OnProgress, ignore_progress

MOST_ROWS: Final = 50_000
_FOLDS: Final = 5
_TREES: Final = 50
_NO_DIFFERENCE: Final = 0.01
"""Savings that lie nearer to each other tell no two rules apart."""
_FIRST_TRIED: Final = "smote"
_ALSO_TRIED: Final = (
    "logistic", "weights_balanced", "undersampling", "balanced_forest", "threshold_half", "threshold_cost",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake on the user's data.

    Attributes
    ----------
    name
        What is done wrong.
    reported_as, reported
        The figure that the mistake leads to, and its name; a share of 1, NaN where the mistake could not be made here.
    honest_as, honest
        The figure that counts instead, or that is had without the mistake; likewise.
    words
        What happened, in plain sentences.
    """

    name: str
    reported_as: str
    reported: float
    honest_as: str
    honest: float
    words: str


def mistakes(material: Material, seed: int, progress: OnProgress = ignore_progress) -> tuple[Mistake, ...]:
    """Make each mistake once.

    Parameters
    ----------
    material
        With raw features, since features of the journal have the history of labels in them; each window holds both
        classes.
    seed
        Decides everything random.
    progress
        Called after each mistake.
    """
    bench, made = _Bench(material, seed), []
    for name, make in _MISTAKES.items():
        try:
            # Beside other work, threads that wait for each other take minutes for what one does in seconds.
            with threadpool_limits(1):
                made.append(make(bench))
        except LeftOutError as reason:
            nan = float("nan")
            made.append(Mistake(name, "", nan, "", nan, f"Not shown: {reason}."))
        progress(len(made), len(_MISTAKES))
    return tuple(made)


class _Bench:
    """The windows of a comparison, and what a script without windows would use."""

    def __init__(self, material: Material, seed: int) -> None:
        self.material, self.seed = material, seed
        self.windows = material.windows

    def learnt(self, start_ms: int, end_ms: int, now_ms: int) -> NDArray[np.int64]:
        """Return the rows of a stretch of time whose verdicts have matured."""
        return learnable(self.material.event_time_ms, self.material.verdicts, start_ms, end_ms, now_ms)

    @cached_property
    def train_rows(self) -> NDArray[np.int64]:
        """Rows to learn from."""
        return self.learnt(self.windows.train_ms, self.windows.tune_ms, self.windows.tune_ms)

    @cached_property
    def test_rows(self) -> NDArray[np.int64]:
        """Rows to judge."""
        rows = self.material.between(self.windows.test_ms, self.windows.end_ms)
        return np.arange(rows.start, rows.stop)

    @cached_property
    def train(self) -> Sample:
        """What was known at the end of the train window."""
        return self.material.known_by(self.train_rows, self.windows.tune_ms)

    @cached_property
    def tune(self) -> Sample:
        """What was known before the test window of the rows to tune on."""
        rows = self.learnt(self.windows.tune_ms, self.windows.gap_ms, self.windows.test_ms)
        return self.material.known_by(rows, self.windows.test_ms)

    @cached_property
    def test(self) -> Sample:
        """The judged rows with the truth."""
        return self.truth(self.test_rows)

    def truth(self, rows: NDArray[np.int64]) -> Sample:
        """Return rows as if every label had always been known."""
        return self.material.known_by(rows, NEVER - 1)

    @cached_property
    def shuffled(self) -> Sample:
        """Rows of all windows with the truth, without regard to time: what a script loads from a file."""
        count = len(self.material)
        rows = np.random.default_rng(self.seed).permutation(count)[:MOST_ROWS]
        return self.truth(np.sort(rows))

    def f1_of(self, model: Fitted) -> float:
        """Return the honest F1 of a model that alerts from 0.5 on."""
        model.fit(capped(self.train, MOST_ROWS, self.seed), self.seed)
        return f1(self.test.fraud, model.score(self.test) > 0.5)

    def cost(self, sample: Sample, alerted: NDArray[np.bool_]) -> float:
        """Return what decisions cost: a review for each case, and the loss of every missed fraud."""
        reviews = self.material.review_cost * len(np.unique(sample.case[alerted]))
        return float(reviews + sample.loss[sample.fraud & ~alerted].sum())

    def savings(self, sample: Sample, alerted: NDArray[np.bool_]) -> float:
        """Return 1 less the cost over the lower of the costs of alerting on nothing and on everything."""
        trivial = min(self.cost(sample, np.full(len(sample), it)) for it in (False, True))
        if trivial == 0.0:
            raise LeftOutError("nothing can be saved where alerting on nothing costs nothing")
        return 1.0 - self.cost(sample, alerted) / trivial


def f1(fraud: NDArray[np.bool_], alerted: NDArray[np.bool_]) -> float:
    """Return the harmonic mean of recall and precision; 0 where nothing is caught."""
    return float(2 * (fraud & alerted).sum() / max(fraud.sum() + alerted.sum(), 1))


def _accuracy(bench: _Bench) -> Mistake:
    fraud = bench.test.fraud
    accuracy = float(1.0 - fraud.mean())
    return Mistake(
        "accuracy as the metric",
        "accuracy",
        accuracy,
        "recall",
        0.0,
        f"A model that calls everything legitimate is right in {_share(accuracy)} of the transactions. It catches none "
        f"of the {fraud.sum():,} frauds and loses {bench.test.loss[fraud].sum():,.0f}.",
    )


def _resampling_before_the_split(bench: _Bench) -> Mistake:
    rows, seed = bench.shuffled, bench.seed
    with explained():
        X, y = _resampled_first(rows, oversampler, imputed, seed)
        X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=y)
        [forest] = _forest(rows, seed)
        reported = f1(y_test, forest.fit(X, y).predict(X_test))
        train, test = train_test_split(
            np.arange(len(rows)), test_size=0.3, random_state=seed, stratify=rows.fraud
        )
    split_first = resampled(oversampler, _forest, imputed)
    split_first.fit(rows.take(train), seed)
    held_out = rows.take(test)
    repaired = f1(held_out.fraud, split_first.score(held_out) > 0.5)
    honest = bench.f1_of(resampled(oversampler, _forest, imputed))
    return Mistake(
        "resampling before the split",
        "F1",
        reported,
        "F1",
        honest,
        "Frauds were repeated before the random split, so a random forest met copies of the same frauds in training "
        f"and in the test, and as many frauds as legits. With the split first the same forest reaches "
        f"{_share(repaired)}; in order of time, {_share(honest)}.",
    )


def _resampling_before_cross_validation(bench: _Bench) -> Mistake:
    rows, seed = bench.shuffled, bench.seed
    _require_frauds(rows, 2 * _FOLDS)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    reported, repaired = [], []
    with explained():
        X, y = _resampled_first(rows, smote, scaled, seed)
        for train, test in folds.split(X, y):
            [model] = logistic(rows, seed)
            reported.append(f1(y[test], model.fit(X[train], y[train]).predict(X[test])))
        for train, test in folds.split(rows.features, rows.fraud):
            inside = resampled(smote, frauds=SMOTE_FRAUDS)
            inside.fit(rows.take(train), seed)
            held_out = rows.take(test)
            repaired.append(f1(held_out.fraud, inside.score(held_out) > 0.5))
    honest = bench.f1_of(resampled(smote, frauds=SMOTE_FRAUDS))
    return Mistake(
        "resampling before cross-validation",
        "F1",
        float(np.mean(reported)),
        "F1",
        honest,
        f"SMOTE made frauds before {_FOLDS}-fold cross-validation: folds were tested on frauds made from those of "
        "training, and on as many frauds as legits. With SMOTE inside each fold the same logistic regression reaches "
        f"{_share(float(np.mean(repaired)))}; in order of time, {_share(honest)}.",
    )


def _ignoring_costs(bench: _Bench) -> Mistake:
    model = Fitted(boosting, coded)
    model.fit(bench.train, bench.seed)
    by_f1, by_cost = (_alerts(bench, model, rule) for rule in (Rule.BEST_F1, Rule.COST))
    fraud, saved = bench.test.fraud, [bench.savings(bench.test, it) for it in (by_f1, by_cost)]
    return Mistake(
        "ignoring costs",
        "savings",
        saved[0],
        "savings",
        saved[1],
        f"Gradient boosting at the threshold of best F1 reports an F1 of {_share(f1(fraud, by_f1))} and a recall of "
        f"{_share(float(by_f1[fraud].mean()))}, and says nothing of money: it costs "
        f"{bench.cost(bench.test, by_f1):,.0f} and saves {_share(saved[0])}. Alerting where probability times loss "
        f"pays for a review, the same model has an F1 of {_share(f1(fraud, by_cost))}, costs "
        f"{bench.cost(bench.test, by_cost):,.0f} and saves {_share(saved[1])}.{_without_a_lesson(*saved)}",
    )


def _without_a_lesson(reported: float, honest: float) -> str:
    """Say so where heeding the costs brought nothing on these data."""
    if honest - reported >= _NO_DIFFERENCE:
        return ""
    found = "saved less" if reported - honest >= _NO_DIFFERENCE else "made no difference"
    return f" So heeding costs {found} here, and these data do not show the mistake. That could be seen in costs alone."


def _one_method(bench: _Bench) -> Mistake:
    saved = {_FIRST_TRIED: _tried(bench, strategy_named(_FIRST_TRIED))}
    for name in _ALSO_TRIED:
        with suppress(LeftOutError):
            saved[name] = _tried(bench, strategy_named(name))
    tuned, tested = ({name: it[at] for name, it in saved.items()} for at in (0, 1))
    # The test window must not choose, or the best of many would be best by chance.
    best = max(tuned, key=lambda name: tuned[name])
    table = ", ".join(f"{name} {_share(it)}" for name, it in tested.items())
    return Mistake(
        "trying one method only",
        "savings",
        tested[_FIRST_TRIED],
        "savings",
        tested[best],
        f"SMOTE with logistic regression, tried alone, saves {_share(tested[_FIRST_TRIED])}. {best} saved most on the "
        f"tuning window, and saves {_share(tested[best])} on the test. All that were tried: {table}.",
    )


def _time_travel(bench: _Bench) -> Mistake:
    material = bench.material
    at_once = known_frauds_of_case(material, material.event_time_ms)
    arrived = known_frauds_of_case(material, material.fraud_ms)
    honest = _ranked(bench, arrived, bench.train)
    windows, times_ms = bench.windows, material.event_time_ms
    before = np.flatnonzero((times_ms >= windows.train_ms) & (times_ms < windows.test_ms))
    reported = _ranked(bench, at_once, bench.truth(before), before)
    return Mistake(
        "using labels before they arrived",
        "average precision",
        reported,
        "average precision",
        honest,
        "Gradient boosting learnt every transaction before the test with the label it has today, and got the number "
        "of earlier frauds of the same card and day as a feature, as if each label came at once. With labels used "
        f"only once they had arrived, its average precision is {_share(honest)} instead of {_share(reported)}.",
    )


_MISTAKES: Final[dict[str, Callable[[_Bench], Mistake]]] = {
    "accuracy as the metric": _accuracy,
    "resampling before the split": _resampling_before_the_split,
    "resampling before cross-validation": _resampling_before_cross_validation,
    "ignoring costs": _ignoring_costs,
    "trying one method only": _one_method,
    "using labels before they arrived": _time_travel,
}


def known_frauds_of_case(material: Material, known_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    """Count the frauds of each row's case that came before the row and were known by then.

    Parameters
    ----------
    material
        Of n rows.
    known_ms : int64 (n,)
        When a fraud counts as known.

    Returns
    -------
    float32 (n,)
    """
    frauds = np.flatnonzero(material.fraud_ms != NEVER)
    # All moments of all cases on one line: the count before a row is then one look-up.
    case = np.concatenate([material.case[frauds], material.case])
    moment_ms = np.concatenate([known_ms[frauds], material.event_time_ms])
    is_row = np.arange(len(case)) >= len(frauds)
    # At one moment the row comes first: it does not know of itself.
    order = np.lexsort((~is_row, moment_ms, case))
    known = np.cumsum(~is_row[order], dtype=np.int64)
    first_of_case = np.searchsorted(case[order], case[order])
    known -= np.concatenate([np.zeros(1, np.int64), known])[first_of_case]
    counts = np.empty(len(order), np.float32)
    counts[order] = known
    return counts[is_row]


def _ranked(
    bench: _Bench, feature: NDArray[np.float32], train: Sample, rows: NDArray[np.int64] | None = None
) -> float:
    rows = bench.train_rows if rows is None else rows
    model = Fitted(boosting, coded)
    model.fit(_with_feature(train, feature[rows]), bench.seed)
    test = _with_feature(bench.test, feature[bench.test_rows])
    return average_precision(test.fraud, model.score(test))


def _with_feature(sample: Sample, feature: NDArray[np.float32]) -> Sample:
    return replace(
        sample,
        features=np.column_stack([sample.features, feature]),
        categorical=np.append(sample.categorical, False),
    )


def _tried(bench: _Bench, strategy: Strategy) -> tuple[float, float]:
    """Return what a strategy saves on the tuning window and on the test window."""
    if strategy.make is None:
        raise LeftOutError(f"{strategy.name} is no batch model")
    model = strategy.make()
    model.fit(capped(bench.train, strategy.caps.rows, bench.seed), bench.seed)
    windows = (bench.tune, bench.test)
    scores = [model.score(it) for it in windows]
    alerting = Alerting.settled(
        strategy.rule,
        scores[0],
        bench.tune,
        bench.material.review_cost,
        is_probability=strategy.is_probability,
    )
    tune, test = (
        bench.savings(it, with_joins(alerting.decide(score, it.loss), strategy.rule, it.case).alerted)
        for it, score in zip(windows, scores, strict=True)
    )
    return tune, test


def _alerts(bench: _Bench, model: Fitted, rule: Rule) -> NDArray[np.bool_]:
    alerting = Alerting.settled(
        rule, model.score(bench.tune), bench.tune, bench.material.review_cost, is_probability=True
    )
    decided = alerting.decide(model.score(bench.test), bench.test.loss)
    return with_joins(decided, rule, bench.test.case).alerted


def _resampled_first(
    rows: Sample, sampler: Callable[[Sample, int], list[Any]], preparation: Preparation, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return prepared features and labels of rows that are resampled before anything is held out."""
    X = make_pipeline(*preparation(rows)).fit_transform(finite(rows.features))
    [resample] = sampler(rows, seed)
    X, y = resample.fit_resample(X, rows.fraud)
    return X, y


def _forest(_train: Sample, seed: int) -> list[Any]:
    return [RandomForestClassifier(_TREES, random_state=seed)]


def _require_frauds(rows: Sample, least: int) -> None:
    frauds = int(rows.fraud.sum())
    if frauds < least:
        raise LeftOutError(
            f"it needs {least} frauds, and a random choice of {len(rows):,} rows holds {frauds}"
        )


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
