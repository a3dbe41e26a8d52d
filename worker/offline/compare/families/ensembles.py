"""Ensembles whose members each learn from as many legits as frauds, alerting from a probability of 0.5 on.

Each member draws its legits anew, so together they see many more than one undersampling keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from worker.offline.compare.families.extras import imported
from worker.offline.compare.families.fitted import trees, unweighted
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Strategy


def _of(name: str) -> Callable[[Sample, int], list[Any]]:
    """Return what makes an ensemble of imbalanced-learn as it comes."""
    return lambda _train, seed: [getattr(imported("imblearn.ensemble"), name)(random_state=seed)]


def _strategy(name: str, meaning: str, class_name: str) -> Strategy:
    return Strategy(
        name, "ensembles", meaning, lambda: trees(_of(class_name), unweighted), needs=("imblearn",)
    )


STRATEGIES: Final = (
    _strategy("balanced_forest", "random forest of balanced trees", "BalancedRandomForestClassifier"),
    _strategy("balanced_bagging", "bagged trees, each on balanced rows", "BalancedBaggingClassifier"),
    _strategy("easy_ensemble", "boosted stumps, each ensemble on balanced rows", "EasyEnsembleClassifier"),
    _strategy("rusboost", "boosting that undersamples in every round (RUSBoost)", "RUSBoostClassifier"),
)
