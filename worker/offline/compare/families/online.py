"""Models of river, which learn row by row as verdicts arrive; they alert where calibrated probability pays.

What they need and river does not do by itself: a missing value never reaches them (one NaN spoils a linear model for
ever), and the weight of a row is never dropped silently.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import base, forest, imblearn, linear_model, preprocessing, tree

from worker.errors import SettingsError
from worker.offline.compare.families.fitted import explained
from worker.offline.compare.families.preparation import finite
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Caps, LeftOutError, Rule, Strategy

PREFIX: Final = "river"

_ONE_HOT: Final = 1024
_NOMINAL: Final = 50
"""Into how many values the codes of a category are folded: as features of their own, and for trees."""

# What a classifier that the user names may raise: it may take no words, no missing value, or give no probability.
_FOREIGN: Final = (TypeError, LookupError, AttributeError)

_Features = dict[str, float | str]
_Make = Callable[[int], Any]
"""Makes the unfitted classifier of a seed."""


class Prior(Enum):
    """What a sampled training set does to the probability.

    LEARNT
        Nothing: the classifier honours the weights of rows.
    UNDONE
        The classifier knows no weights: the score takes the odds back by what the rows stood for.
    EQUAL
        Nothing: the classifier samples the classes to equal sizes itself.
    """

    LEARNT = "learnt"
    UNDONE = "undone"
    EQUAL = "equal"


class Online:
    """A classifier of river behind a scaler.

    Parameters
    ----------
    classifier
        Learns features by name; an absent name is a missing value.
    prior
        What becomes of the weights of rows.
    """

    def __init__(self, classifier: Any, prior: Prior) -> None:
        self._classifier = classifier
        self._prior = prior
        self._scaler: Any = preprocessing.StandardScaler()
        self._nominal = "nominal_attributes" in inspect.signature(type(classifier)).parameters
        self._seen = False
        self._learnt, self._stood_for = np.zeros(2), np.zeros(2)

    def learn(self, sample: Sample) -> None:
        """Learn rows in their order; the scaler learns each just before the classifier."""
        self._seen = self._seen or bool(np.isfinite(sample.features).any())
        rows = zip(self._rows(sample), sample.fraud.tolist(), sample.weight.tolist(), strict=True)
        with explained(*_FOREIGN):
            for (numbers, categories), fraud, weight in rows:
                self._scaler.learn_one(numbers)
                features = self._scaler.transform_one(numbers) | categories
                with_weight = {"w": weight} if self._prior is Prior.LEARNT else {}
                self._classifier.learn_one(features, fraud, **with_weight)
        classes = sample.fraud.astype(np.int64)
        self._learnt += np.bincount(classes, minlength=2)
        self._stood_for += np.bincount(classes, sample.weight, minlength=2)

    def score(self, sample: Sample) -> NDArray[np.float64]:
        """Return the probability of fraud that the classifier gives."""
        if not self._seen:
            raise LeftOutError("no feature has a value in the training window")
        scores = np.empty(len(sample))
        with explained(*_FOREIGN):
            for row, (numbers, categories) in enumerate(self._rows(sample)):
                features = self._scaler.transform_one(numbers) | categories
                # Before its first fraud a classifier names no probability of it.
                scores[row] = self._classifier.predict_proba_one(features).get(True, 0.0)
        if not np.isfinite(scores).all():
            raise LeftOutError("its probabilities are no longer finite")
        if self._prior is Prior.UNDONE and self._learnt.all():
            legit, fraud = self._stood_for / self._learnt
            scores = fraud * scores / (fraud * scores + legit * (1.0 - scores))
        return scores

    def _rows(self, sample: Sample) -> Iterator[tuple[_Features, _Features]]:
        """Yield the numbers and the categories of each row, without those that are missing."""
        names = [str(column) for column in range(sample.features.shape[1])]
        numeric = [(column, names[column]) for column in np.flatnonzero(~sample.categorical)]
        categories = [(column, names[column]) for column in np.flatnonzero(sample.categorical)]
        for start in range(0, len(sample), 10_000):
            for row in finite(sample.features[start : start + 10_000]).tolist():
                yield (
                    {name: row[column] for column, name in numeric if not math.isnan(row[column])},
                    dict(
                        self._category(name, int(row[column]))
                        for column, name in categories
                        if not math.isnan(row[column])
                    ),
                )

    def _category(self, name: str, code: int) -> tuple[str, float | str]:
        # Trees split words by value. Other models get a feature for each value; the scaler, which would see each of
        # these at 1 alone and scale it to 0, must not.
        return (name, str(code % _NOMINAL)) if self._nominal else (f"{name}={code % _ONE_HOT}", 1.0)


def honours_weights(make: _Make) -> bool:
    """Probe whether a classifier learns otherwise from weighted rows: many accept weights and ignore them.

    Parameters
    ----------
    make
        Makes the classifier.
    """
    chance = np.random.default_rng(1)
    rows = [
        ({"0": float(value), "1": float(other)}, bool(value + other > 1.0))
        for value, other in chance.normal(size=(60, 2))
    ]
    plain, weighted = make(0), make(0)
    try:
        for features, fraud in rows:
            plain.learn_one(features, fraud, w=1.0)
            weighted.learn_one(features, fraud, w=1.0 if fraud else 20.0)
    except (TypeError, NotImplementedError):
        return False
    return any(plain.predict_proba_one(it) != weighted.predict_proba_one(it) for it, _ in rows)


def online(make: _Make, seed: int) -> Online:
    """Return a model of a classifier, and see to it that a sampled training set leaves its prior alone."""
    return Online(make(seed), Prior.LEARNT if honours_weights(make) else Prior.UNDONE)


def by_path(path: str) -> Strategy:
    """Return the strategy `river:PATH` of a classifier of river that needs no argument.

    Parameters
    ----------
    path
        Such as `river.naive_bayes.GaussianNB`.

    Raises
    ------
    SettingsError
        River has no such classifier, or it cannot be made without arguments.
    """
    name = f"{PREFIX}:{path}"
    module, _, attribute = path.rpartition(".")
    # Only river's own modules are imported: importing a module runs it.
    if module.partition(".")[0] != PREFIX:
        raise SettingsError(
            f"{name}: the path must begin with river, as in river:river.naive_bayes.GaussianNB"
        )
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        found = None
    if not (inspect.isclass(found) and issubclass(found, base.Classifier)):
        raise SettingsError(f"{name}: river has no such classifier")
    parameters = inspect.signature(found).parameters
    required = [
        it.name for it in parameters.values() if it.default is it.empty and it.kind < it.VAR_POSITIONAL
    ]
    if required:
        raise SettingsError(
            f"{name}: it needs {', '.join(required)}; only classifiers without arguments can be named"
        )
    seeded = "seed" in parameters
    return _strategy(
        name, f"{attribute} of river, as it comes", lambda seed: found(**({"seed": seed} if seeded else {}))
    )


def logistic(seed: int = 0) -> Any:
    """Return river's logistic regression as it comes; nothing in it is random."""
    del seed
    return linear_model.LogisticRegression()


def adaptive_tree(seed: int) -> Any:
    """Return a Hoeffding tree that replaces branches when patterns change."""
    return tree.HoeffdingAdaptiveTreeClassifier(seed=seed)


def adaptive_forest(seed: int) -> Any:
    """Return an adaptive random forest of ten trees."""
    return forest.ARFClassifier(n_models=10, seed=seed)


def _strategy(name: str, meaning: str, make: _Make, caps: Caps | None = None) -> Strategy:
    return _of(name, meaning, lambda seed: online(make, seed), caps)


def _equal(name: str, meaning: str, sampler: Callable[..., Any]) -> Strategy:
    halves = {False: 0.5, True: 0.5}
    return _of(
        name, meaning, lambda seed: Online(sampler(logistic(), desired_dist=halves, seed=seed), Prior.EQUAL)
    )


def _of(name: str, meaning: str, make: Callable[[int], Online], caps: Caps | None = None) -> Strategy:
    return Strategy(name, "online", meaning, make_online=make, rule=Rule.COST, caps=caps or Caps())


STRATEGIES: Final = (
    _strategy("online_logistic", "logistic regression of river, row by row", logistic),
    _strategy(
        "hoeffding_adaptive_tree",
        "one tree of river that replaces branches when patterns change",
        adaptive_tree,
    ),
    _strategy(
        "adaptive_random_forest",
        "ten trees of river that are replaced when patterns change (ARF)",
        adaptive_forest,
        Caps(rows=100_000),
    ),
    _equal(
        "online_undersampling",
        "river's logistic regression on as many legits as frauds arrive",
        imblearn.RandomUnderSampler,
    ),
    _equal(
        "online_oversampling",
        "river's logistic regression, each fraud learnt as often as legits arrive",
        imblearn.RandomOverSampler,
    ),
)
