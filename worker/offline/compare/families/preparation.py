"""How features are prepared for a model; every preparation is fitted on the training window only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import LeftOutError

Preparation = Callable[[Sample], list[Any]]
"""Returns the unfitted steps that come before a model, given the rows to learn from."""

ONE_HOT_CATEGORIES: Final = 30
CODED_CATEGORIES: Final = 200
"""The most frequent values of a category that keep a code of their own; the others share one."""


def finite(features: NDArray[Any]) -> NDArray[np.float64]:
    """Return features as float64, with NaN for infinities: a user's number may exceed float32."""
    values = np.asarray(features, np.float64)
    return values if np.isfinite(values).all() else np.where(np.isfinite(values), values, np.nan)


def observed(sample: Sample) -> tuple[list[int], list[int]]:
    """Return the numeric and the categorical columns that hold a value somewhere in the sample.

    Raises
    ------
    LeftOutError
        No column does.
    """
    seen = np.isfinite(sample.features).any(axis=0)
    if not seen.any():
        raise LeftOutError("no feature has a value in the training window")
    numeric = np.flatnonzero(seen & ~sample.categorical).tolist()
    return numeric, np.flatnonzero(seen & sample.categorical).tolist()


def as_is(_train: Sample) -> list[Any]:
    """Leave features as they are."""
    return []


def scaled(train: Sample) -> list[Any]:
    """Impute medians and scale; a column for each frequent value of a category. For linear models and neighbours."""
    numeric, categories = observed(train)
    number = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = OneHotEncoder(
        max_categories=ONE_HOT_CATEGORIES, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    return [ColumnTransformer([("numeric", number, numeric), ("categories", columns, categories)])]


def imputed(train: Sample) -> list[Any]:
    """Impute medians; a number for each frequent value of a category. For trees that take no missing value."""
    numeric, categories = observed(train)
    return [
        ColumnTransformer(
            [
                ("numeric", SimpleImputer(strategy="median"), numeric),
                ("categories", codes(missing=-1), categories),
            ]
        )
    ]


def coded(train: Sample) -> list[Any]:
    """Keep missing values; a number for each frequent value of a category. For boosting.

    The categories become the last columns: `coded_categories` counts them.
    """
    numeric, categories = observed(train)
    return [
        ColumnTransformer(
            [("numeric", "passthrough", numeric), ("categories", codes(missing=np.nan), categories)]
        )
    ]


def coded_categories(train: Sample) -> list[int]:
    """Return which columns after `coded` are categories."""
    numeric, categories = observed(train)
    return list(range(len(numeric), len(numeric) + len(categories)))


def codes(missing: float) -> OrdinalEncoder:
    """Return what numbers the frequent values of categories, with `missing` for missing and new ones."""
    return OrdinalEncoder(
        max_categories=CODED_CATEGORIES,
        handle_unknown="use_encoded_value",
        unknown_value=missing,
        encoded_missing_value=missing,
    )
