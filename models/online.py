"""The online model: logistic regression over discretised features and their pairwise crosses."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from river import base

from models.arithmetic import log, sigmoid
from models.bins import read_only
from models.crosses import Rates
from models.generation import BinnedRows, Generation, TrainingRows

FULL_RATE_CROSSES: Final = 136
"""So many crosses (those of 17 features) learn at their full rate; where there are more, each learns more slowly."""


class LogisticParams(TypedDict, total=False):
    """The parameters of `BinnedLogistic` by name; one that is left out keeps its default."""

    main_bins: int
    cross_bins: int
    learning_rate: float
    cross_learning_rate: float
    intercept_learning_rate: float
    fraud_weight: float
    prior: float | None
    max_crossed: int
    warm_up_rows: int
    passes: int


_PARAMS: Final = tuple(LogisticParams.__annotations__)
_COUNTS: Final = ("main_bins", "cross_bins", "max_crossed", "warm_up_rows", "passes")


class BinnedLogistic(base.Classifier):
    """Logistic regression with one weight per bin of a feature and per pair of bins of two features.

    It equals river's ``LogisticRegression`` over one-hot bins and crosses, with an AdaGrad optimizer whose ``eps`` is 1
    and which has one rate for main effects and another for crosses, and with river's rules for sample weights and the
    intercept. Weights are dense tables, so that a score is a sum of look-ups.

    A model lives in generations: `restart` draws the edges without labels, sets the weights to zero, learns the given
    rows in their order and fixes the means to which `contributions` refers. As a river estimator it begins without a
    generation: it keeps the first `warm_up_rows` examples, predicts the prior meanwhile, and then begins its one
    generation with them. It ignores features that first appear later; absent ones are missing.

    Parameters
    ----------
    main_bins, cross_bins
        The most bins of a feature, for its own effect and in crosses, the missing one included; 4 to 256.
    learning_rate
        AdaGrad rate of main effects.
    cross_learning_rate
        AdaGrad rate of up to 136 crosses; if there are more, it is multiplied by 136 / their number.
    intercept_learning_rate
        Constant rate of the intercept's plain gradient steps.
    fraud_weight
        Weight of a fraud in the loss beside that of a legit; undone in logit and probability (Elkan 2001).
    prior
        Probability of fraud that the intercept starts from; None takes the weighted share in the first rows.
    max_crossed
        Only the first so many features are crossed.
    warm_up_rows
        How many examples `learn_one` keeps before it draws edges.
    passes
        How often `restart` learns its rows.

    Examples
    --------
    >>> model = BinnedLogistic(warm_up_rows=2)
    >>> for amount, fraud in [(1.0, False), (250.0, True), (2.0, False), (260.0, True)]:
    ...     model.learn_one({"amount": amount}, fraud)
    >>> model.predict_one({"amount": 255.0})
    True

    References
    ----------
    Duchi, J., Hazan, E. and Singer, Y. (2011). Adaptive subgradient methods for online learning and
    stochastic optimization. Journal of Machine Learning Research 12.

    Elkan, C. (2001). The foundations of cost-sensitive learning. IJCAI.
    """

    def __init__(  # noqa: PLR0913 - river clones an estimator by the parameters of its constructor
        self,
        main_bins: int = 64,
        cross_bins: int = 16,
        learning_rate: float = 0.05,
        cross_learning_rate: float = 0.03,
        intercept_learning_rate: float = 0.001,
        fraud_weight: float = 1.0,
        prior: float | None = None,
        max_crossed: int = 32,
        warm_up_rows: int = 100,
        passes: int = 1,
    ) -> None:
        if not (math.isfinite(fraud_weight) and fraud_weight > 0.0):
            msg = f"fraud_weight must be positive, got {fraud_weight}"
            raise ValueError(msg)
        rates = (learning_rate, cross_learning_rate, intercept_learning_rate)
        if not all(math.isfinite(rate) and rate >= 0.0 for rate in rates):
            msg = f"learning rates must not be negative, got {rates}"
            raise ValueError(msg)
        if max_crossed < 0 or warm_up_rows < 1:
            msg = f"max_crossed must be at least 0 and warm_up_rows 1, got {max_crossed} and {warm_up_rows}"
            raise ValueError(msg)
        if passes < 1:
            msg = f"passes must be at least 1, got {passes}"
            raise ValueError(msg)
        if prior is not None and not 0.0 < prior < 1.0:
            msg = f"prior must lie between 0 and 1, got {prior}"
            raise ValueError(msg)
        self.main_bins = main_bins
        self.cross_bins = cross_bins
        self.learning_rate = learning_rate
        self.cross_learning_rate = cross_learning_rate
        self.intercept_learning_rate = intercept_learning_rate
        self.fraud_weight = fraud_weight
        self.prior = prior
        self.max_crossed = max_crossed
        self.warm_up_rows = warm_up_rows
        self.passes = passes
        self._generation: Generation | None = None
        self._warm_up: list[tuple[dict[Hashable, Any], bool, float]] = []

    @property
    def in_words(self) -> str:
        """What it is, for a log: what the candidates of a search differ in."""
        passes = "1 pass" if self.passes == 1 else f"{self.passes} passes"
        return (
            f"tables of {self.main_bins} bins and {self.cross_bins} in crosses, learnt in {passes} "
            f"at rates of {self.learning_rate:g} and {self.cross_learning_rate:g}"
        )

    def restart(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.uint8],
        w: NDArray[np.float64],
        names: Sequence[Hashable],
        categorical: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """Begin a new generation: draw edges without labels, forget all weights, learn the rows in order.

        Parameters
        ----------
        X : float32 (n, F)
            Features; what is not finite is missing.
        y : uint8 (n,)
            1 for fraud, 0 for legit.
        w : float64 (n,)
            Sampling weights.
        names
            The F features' names, for the dictionaries of the river interface.
        categorical : bool (F,)
            Which features are codes.

        Returns
        -------
        float64 (n,)
            The logit of each row before it was learnt first, with the fraud weight undone.

        Raises
        ------
        ValueError
            If there are no rows, shapes disagree, y is not 0 or 1, or a weight is negative or not finite.
        """
        if X.shape[0] == 0 or len(names) != categorical.size:
            msg = f"a generation needs rows and a name and a kind per column, got shape {X.shape}"
            raise ValueError(msg)
        return self.begin(self.binned(TrainingRows(X, *_targets(X, y, w)), categorical), names)

    def binned(self, rows: TrainingRows, categorical: NDArray[np.bool_]) -> BinnedRows:
        """Cut rows into as many bins as this model has; raises as `models.bins.draw_bins` does."""
        return BinnedRows.of(rows, categorical, self.main_bins, self.cross_bins)

    def begin(self, rows: BinnedRows, names: Sequence[Hashable]) -> NDArray[np.float64]:
        """Begin a new generation with rows that are cut into bins; see `restart`.

        Raises
        ------
        ValueError
            If the bins are not as many as this model has.
        """
        if (rows.bins.main_bins, rows.bins.cross_bins) != (self.main_bins, self.cross_bins):
            msg = f"{rows.bins.main_bins} and {rows.bins.cross_bins} bins, not {self.main_bins} and {self.cross_bins}"
            raise ValueError(msg)
        prior = _fraud_share(rows.y, rows.w) if self.prior is None else self.prior
        intercept = log(self.fraud_weight * prior / (1.0 - prior))
        crossed = min(len(names), self.max_crossed)
        self._generation, before = Generation.begin(
            rows, names, crossed, intercept, self._rates(crossed), self.passes
        )
        self._warm_up = []
        return before - log(self.fraud_weight)

    def score_batch(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits of fraud, with the fraud weight undone.

        Parameters
        ----------
        X : float32 (n, F)
            Features; what is not finite is missing.

        Returns
        -------
        float64 (n,)
        """
        return self._current().score(X) - log(self.fraud_weight)

    def learn_batch(self, X: NDArray[np.float32], y: NDArray[np.uint8], w: NDArray[np.float64]) -> None:
        """Learn rows one by one, in their order.

        Parameters
        ----------
        X : float32 (n, F)
            Features; what is not finite is missing.
        y : uint8 (n,)
            1 for fraud, 0 for legit.
        w : float64 (n,)
            Weights.

        Raises
        ------
        ValueError
            If shapes disagree, y is not 0 or 1, or a weight is negative or not finite; then the model learns nothing.
        """
        now = self._current()
        now.learn(X, *_targets(X, y, w), self._rates(now.crossed))

    def contributions(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each feature adds to the logit, float64 (n, F).

        A feature's contribution is its weight less the generation's mean, and half of the same over its crosses. A
        row's contributions and `reference_logit` sum to its logit.
        """
        return self._current().contributions(X)

    @property
    def reference_logit(self) -> float:
        """The logit of a row all of whose weights are the generation's means."""
        return self._current().reference - float(log(self.fraud_weight))

    def learn_one(self, x: Mapping[Any, Any], y: Any, w: float = 1.0) -> None:
        """Learn one example; keep the first `warm_up_rows`, then draw edges from them.

        Parameters
        ----------
        x
            Numbers by feature name; None is missing.
        y
            True or 1 for fraud, False or 0 for legit.
        w
            Weight of the example.

        Raises
        ------
        ValueError
            If y is neither, or w is negative or not finite.
        """
        targets = _targets(np.empty((1, 0)), np.array([y]), np.array([w]))
        if self._generation is not None:
            self.learn_batch(_row(x, self._generation.names), *targets)
            return
        self._warm_up.append((dict(x), bool(y), float(w)))
        if len(self._warm_up) >= self.warm_up_rows:
            # Sorted: the order of names in a dictionary must change nothing.
            names = sorted({name for x, _, _ in self._warm_up for name in x}, key=str)
            X = np.concatenate([_row(x, names) for x, _, _ in self._warm_up])
            self.restart(X, *self._warm_up_targets(), names, np.zeros(len(names), np.bool_))

    def predict_proba_one(self, x: Mapping[Any, Any], **_: Any) -> dict[Any, float]:
        """Return the probability of legit (False) and of fraud (True)."""
        if self._generation is not None:
            fraud = float(sigmoid(self.score_batch(_row(x, self._generation.names))[0]))
        else:
            fraud = _fraud_share(*self._warm_up_targets()) if self.prior is None else self.prior
        return {False: 1.0 - fraud, True: fraud}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return parameters and generation as copies of arrays of numbers, by name."""
        params = [np.nan if (value := getattr(self, name)) is None else value for name in _PARAMS]
        return {"params": np.array(params, np.float64), **self._current().arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> BinnedLogistic:
        """Restore a model that continues, to the bit, where `arrays` was called.

        Raises
        ------
        KeyError
            If an array is absent.
        ValueError
            If an array has another type or shape, or holds what no model could.
        """
        model = cls(**_restored_params(arrays["params"]))
        model._generation = Generation.from_arrays(
            arrays, model.main_bins, model.cross_bins, model.max_crossed
        )
        return model

    def _current(self) -> Generation:
        if self._generation is None:
            msg = "the model has no generation yet: call restart, or learn_one until warm_up_rows are there"
            raise RuntimeError(msg)
        return self._generation

    def _rates(self, crossed: int) -> Rates:
        excess = max(1.0, crossed * (crossed - 1) / 2 / FULL_RATE_CROSSES)
        return Rates(
            self.learning_rate,
            self.cross_learning_rate / excess,
            self.intercept_learning_rate,
            self.fraud_weight,
        )

    def _warm_up_targets(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        return (
            np.array([y for _, y, _ in self._warm_up], np.uint8),
            np.array([w for _, _, w in self._warm_up], np.float64),
        )


def build_generation(
    X: NDArray[np.float32],
    y: NDArray[np.uint8],
    w: NDArray[np.float64],
    names: Sequence[Hashable],
    categorical: NDArray[np.bool_],
    params: LogisticParams | None = None,
) -> BinnedLogistic:
    """Return a new model that begins its generation with these rows; see `BinnedLogistic.restart`."""
    model = BinnedLogistic(**(params or {}))
    model.restart(X, y, w, names, categorical)
    return model


def _row(x: Mapping[Any, Any], names: Sequence[Hashable]) -> NDArray[np.float32]:
    values = [np.nan if (value := x.get(name)) is None else float(value) for name in names]
    with np.errstate(over="ignore"):
        return np.array([values], np.float64).astype(np.float32)


def _targets(
    X: NDArray[Any], y: NDArray[Any], w: NDArray[Any]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Check targets and weights; return them in the types that the compiled loops take."""
    if not y.shape == w.shape == X.shape[:1]:
        msg = f"{X.shape[0]} rows but targets of shape {y.shape} and weights of shape {w.shape}"
        raise ValueError(msg)
    if not np.all((y == 0) | (y == 1)):
        msg = "a target is neither 0 nor 1"
        raise ValueError(msg)
    if not np.all(np.isfinite(w) & (w >= 0)):
        msg = "a weight is negative or not finite"
        raise ValueError(msg)
    return read_only(y.astype(np.uint8)), read_only(w.astype(np.float64))


def _fraud_share(y: NDArray[np.uint8], w: NDArray[np.float64]) -> float:
    """Return the weighted share of frauds; half a row added to each class keeps it from 0 and 1."""
    # fsum rounds once, so the order of the rows does not matter.
    return (math.fsum(w[y == 1]) + 0.5) / (math.fsum(w) + 1.0)


def _restored_params(values: NDArray[np.float64]) -> LogisticParams:
    params: dict[str, Any] = dict(zip(_PARAMS, values.tolist(), strict=True))
    for name in _COUNTS:
        if not params[name].is_integer():
            msg = f"{name} is not a whole number: {params[name]}"
            raise ValueError(msg)
        params[name] = int(params[name])
    if math.isnan(params["prior"]):
        params["prior"] = None
    return cast(LogisticParams, params)
