"""Making the classes equal by making or dropping rows, inside imbalanced-learn's Pipeline, in training alone.

Rows that resampling makes or drops change the prior that a model learns, and nothing here undoes that: where a rule
needs a probability, calibration on the tuning window does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from worker.offline.compare.families.extras import imported
from worker.offline.compare.families.fitted import Fitted, unweighted
from worker.offline.compare.families.nothing import boosting, boosting_on_numbers, logistic
from worker.offline.compare.families.preparation import Preparation, coded, codes, observed, scaled
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Caps, LeftOutError, Strategy

NEIGHBOUR_CAPS: Final = Caps(rows=50_000)
_CLEANING_CAPS: Final = Caps(rows=50_000, seconds=1_800)
"""Cleaning after SMOTE compares twice as many rows, each with each."""

SMOTE_NEIGHBOURS: Final = 5
SMOTE_FRAUDS: Final = SMOTE_NEIGHBOURS + 1
"""As many SMOTE and its kin need: a fraud and its neighbours."""
_NEAR_MISS_NEIGHBOURS: Final = 3

Steps = Callable[[Sample, int], list[Any]]


def resampled(
    sampler: Steps, classifier: Steps = logistic, preparation: Preparation = scaled, frauds: int = 1
) -> Fitted:
    """Return a model that resamples the prepared rows before it learns.

    Parameters
    ----------
    sampler, classifier
        Make the unfitted steps from the rows to learn from and a seed.
    preparation
        Of the features; neighbours are found among the prepared ones.
    frauds
        As many the sampler needs.
    """

    def steps(train: Sample, seed: int) -> list[Any]:
        there = int(train.fraud.sum())
        if there < frauds:
            raise LeftOutError(
                f"its neighbours are frauds: it needs {frauds} of them, and the training window holds {there}"
            )
        return [*sampler(train, seed), *classifier(train, seed)]

    return Fitted(steps, preparation, unweighted, _pipeline)


def oversampler(_train: Sample, seed: int) -> list[Any]:
    """Return what repeats frauds until there are as many as legits."""
    return [imported("imblearn.over_sampling").RandomOverSampler(random_state=seed)]


def undersampler(_train: Sample, seed: int) -> list[Any]:
    """Return what drops legits until there are as many as frauds."""
    return [imported("imblearn.under_sampling").RandomUnderSampler(random_state=seed)]


def smote(_train: Sample, seed: int) -> list[Any]:
    """Return what makes frauds between a fraud and its neighbours among the frauds."""
    return [imported("imblearn.over_sampling").SMOTE(k_neighbors=SMOTE_NEIGHBOURS, random_state=seed)]


def _adasyn(_train: Sample, seed: int) -> list[Any]:
    return [imported("imblearn.over_sampling").ADASYN(n_neighbors=SMOTE_NEIGHBOURS, random_state=seed)]


def _borderline_smote(_train: Sample, seed: int) -> list[Any]:
    sampling = imported("imblearn.over_sampling")
    return [sampling.BorderlineSMOTE(k_neighbors=SMOTE_NEIGHBOURS, random_state=seed)]


def _tomek_links(_train: Sample, _seed: int) -> list[Any]:
    return [imported("imblearn.under_sampling").TomekLinks()]


def _near_miss(_train: Sample, _seed: int) -> list[Any]:
    return [imported("imblearn.under_sampling").NearMiss(n_neighbors=_NEAR_MISS_NEIGHBOURS)]


def _smote_tomek(_train: Sample, seed: int) -> list[Any]:
    return [imported("imblearn.combine").SMOTETomek(random_state=seed)]


def _smote_enn(_train: Sample, seed: int) -> list[Any]:
    return [imported("imblearn.combine").SMOTEENN(random_state=seed)]


def _with_categories_apart(train: Sample) -> list[Any]:
    """Prepare for SMOTE-NC: scaled numbers first, then a number for each frequent value of a category."""
    numeric, categories = observed(train)
    if not numeric or not categories:
        missing = "categorical" if numeric else "numeric"
        raise LeftOutError(f"there are no {missing} features, and it is made for both kinds together")
    number = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return [ColumnTransformer([("numeric", number, numeric), ("categories", codes(missing=-1), categories)])]


def _smote_nc(train: Sample, seed: int) -> list[Any]:
    numeric, categories = (len(columns) for columns in observed(train))
    coded = list(range(numeric, numeric + categories))
    sampler = imported("imblearn.over_sampling").SMOTENC(
        coded, k_neighbors=SMOTE_NEIGHBOURS, random_state=seed
    )
    columns = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return [sampler, ColumnTransformer([("categories", columns, coded)], remainder="passthrough")]


def _weighted_logistic(train: Sample, seed: int) -> list[Any]:
    """Return logistic regression that restores the prior of a sampled training set.

    Removing Tomek links leaves most legits, so what they stand for has to be counted; the rows that are left no
    longer match the weights, but their classes do.
    """
    stands_for = {fraud: float(np.mean(train.weight[train.fraud == fraud])) for fraud in (False, True)}
    even = len(set(stands_for.values())) == 1
    return [LogisticRegression(max_iter=1000, random_state=seed, class_weight=None if even else stands_for)]


def _pipeline(*steps: Any) -> Any:
    return imported("imblearn.pipeline").make_pipeline(*steps)


def _strategy(name: str, meaning: str, make: Callable[[], Fitted], caps: Caps = NEIGHBOUR_CAPS) -> Strategy:
    return Strategy(name, "resampling", meaning, make, needs=("imblearn",), caps=caps)


STRATEGIES: Final = (
    _strategy(
        "oversampling", "frauds repeated until the classes are equal", lambda: resampled(oversampler), Caps()
    ),
    _strategy(
        "undersampling", "legits dropped until the classes are equal", lambda: resampled(undersampler), Caps()
    ),
    _strategy(
        "undersampling_boosting",
        "legits dropped until the classes are equal, then gradient boosting",
        lambda: resampled(undersampler, boosting, coded),
        Caps(),
    ),
    _strategy(
        "smote",
        "frauds made between neighbouring frauds (SMOTE)",
        lambda: resampled(smote, frauds=SMOTE_FRAUDS),
    ),
    _strategy(
        "smote_boosting",
        "frauds made between neighbouring frauds (SMOTE), then gradient boosting",
        lambda: resampled(smote, boosting_on_numbers, frauds=SMOTE_FRAUDS),
    ),
    _strategy(
        "adasyn",
        "frauds made where legits surround them (ADASYN)",
        lambda: resampled(_adasyn, frauds=SMOTE_FRAUDS),
    ),
    _strategy(
        "borderline_smote",
        "frauds made on the border of the classes (BorderlineSMOTE)",
        lambda: resampled(_borderline_smote, frauds=SMOTE_FRAUDS),
    ),
    _strategy(
        "smote_nc",
        "frauds made of numbers and of categories (SMOTE-NC)",
        lambda: resampled(_smote_nc, preparation=_with_categories_apart, frauds=SMOTE_FRAUDS),
    ),
    _strategy(
        "tomek_links",
        "legits dropped that are a fraud's nearest neighbour (Tomek links)",
        lambda: resampled(_tomek_links, _weighted_logistic),
    ),
    _strategy(
        "near_miss",
        "only the legits nearest to frauds kept (NearMiss)",
        lambda: resampled(_near_miss, frauds=_NEAR_MISS_NEIGHBOURS),
    ),
    _strategy(
        "smote_tomek",
        "SMOTE, then Tomek links dropped",
        lambda: resampled(_smote_tomek, frauds=SMOTE_FRAUDS),
        _CLEANING_CAPS,
    ),
    _strategy(
        "smote_enn",
        "SMOTE, then rows dropped that contradict their neighbours (ENN)",
        lambda: resampled(_smote_enn, frauds=SMOTE_FRAUDS),
        _CLEANING_CAPS,
    ),
)
