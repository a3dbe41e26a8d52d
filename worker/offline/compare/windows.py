"""Windows in time, and which verdicts were known at a moment: nothing is learnt or tuned from the future."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns
from models.vocabulary import MS_PER_DAY
from worker.errors import SettingsError
from worker.offline.compare.result import Window
from worker.offline.dataset import Dataset

LEAST_DAYS: Final = 30
LEAST_FRAUDS: Final = 30
"""In each of the train, tune and test windows, and as many legits."""
_LEAST_TEST_DAYS: Final = 2
"""One day has no spread, and so no interval: nobody could say what is within noise."""
_SAME_MS: Final = 1_000
"""Delays that differ by no more than a file's precision of time are one delay."""


class Shares(NamedTuple):
    """The proportions of the windows, and the days of the gap; None where it is as long as the labels take."""

    warm_up: float = 15.0
    train: float = 40.0
    tune: float = 14.0
    test: float = 14.0
    gap_days: float | None = None

    @property
    def of_windows(self) -> tuple[float, ...]:
        """The proportions alone."""
        return self.warm_up, self.train, self.tune, self.test

    def __str__(self) -> str:
        numbers = list(self.of_windows)
        if self.gap_days is not None:
            numbers.insert(3, self.gap_days)
        return ",".join(f"{number:g}" for number in numbers)

    def age_of(self, delay: Delay) -> Delay:
        """Return the age at which a verdict counts: that of the labels, cut short where the gap is shorter.

        Raises
        ------
        SettingsError
            All labels take as long, and longer than the gap: nothing would be known of the newest days.
        """
        if self.gap_days is None or delay.ms <= self.gap_days * MS_PER_DAY:
            return delay
        if not delay.varies:
            raise SettingsError(f"{delay}, longer than the gap of --windows = {self}: make the gap as long")
        return Delay(round(self.gap_days * MS_PER_DAY), varies=True, is_chosen=True)


_OTHER_SHARES: Final = (
    Shares(10, 30, 20, 20),
    Shares(5, 30, 20, 20),
    Shares(5, 25, 25, 25),
    Shares(5, 40, 15, 30),
    Shares(5, 30, 30, 15),
    Shares(5, 20, 30, 35),
    Shares(5, 70, 15, 15),
)
"""What may do where a window has too few frauds, the more usual first."""
_LABELLED: Final = 0.9
"""By the age at which a verdict counts, this share of the frauds has its label; strategies take the others for legit.

So few change neither a model nor a threshold much, and what the last tenth takes would cost the windows weeks.
"""


def days_text(days: float) -> str:
    """Return a number of days for a reader."""
    return f"{days:g} {'day' if days == 1 else 'days'}"


def require_days(first_ms: int, last_ms: int) -> int:
    """Return how many days (UTC) a stretch of time touches; raises SettingsError where no windows fit into it."""
    days = last_ms // MS_PER_DAY + 1 - first_ms // MS_PER_DAY
    if days < LEAST_DAYS:
        raise SettingsError(
            f"the transactions span {days_text(days)}: a comparison needs {LEAST_DAYS}, for windows to warm up, "
            "train, tune and test; give a longer file (`backtest` judges a shorter one)"
        )
    return days


class Delay(NamedTuple):
    """The age at which a verdict counts as known.

    Attributes
    ----------
    ms
        The delay of the labels where all have the same. Otherwise `labels.negatives_after_days`, or what nine in ten
        fraud labels take if that is longer.
    varies
        Whether delays vary.
    by_frauds
        Whether late fraud labels decide it.
    is_chosen
        Whether the user chose it, by a gap that is shorter.
    """

    ms: int
    varies: bool
    by_frauds: bool = False
    is_chosen: bool = False

    def __str__(self) -> str:
        if self.is_chosen:
            return f"the gap of --windows is {self.in_days}"
        if self.by_frauds:
            return f"nine in ten fraud labels come within {self.in_days}"
        if self.varies:
            return f"labels.negatives_after_days is {self.ms / MS_PER_DAY:g}"
        return f"labels take {self.in_days}"

    @property
    def in_days(self) -> str:
        """How long it is, in words."""
        return days_text(self.ms / MS_PER_DAY)


@dataclass(frozen=True, slots=True)
class Verdicts(Columns):
    """When the truth of n transactions became known; both classes mature alike.

    Attributes
    ----------
    matures_ms : int64 (n,)
        Before this moment no window learns the row, whatever its class: frauds are labelled early, and would otherwise
        be nearly all that the newest days show. In a file whose truth is partly unknown not before its label: silence
        chooses no row there. The largest int64 where the truth is unknown.
    fraud_ms : int64 (n,)
        When a fraud label arrived; the largest int64 where none did.
    """

    matures_ms: NDArray[np.int64]
    fraud_ms: NDArray[np.int64]

    def mature(self, now_ms: int) -> NDArray[np.bool_]:
        """Return which rows are old enough to be learnt, bool (n,)."""
        return np.asarray(self.matures_ms <= now_ms)

    def fraud(self, now_ms: int) -> NDArray[np.bool_]:
        """Return which rows are known as frauds, bool (n,)."""
        return np.asarray(self.fraud_ms <= now_ms)


@dataclass(frozen=True, slots=True)
class Windows:
    """Boundaries of the windows in epoch milliseconds; each window begins where the one before ends.

    Attributes
    ----------
    warm_up_ms, train_ms, tune_ms, gap_ms, test_ms
        Starts. Features are cold in the warm-up: no strategy sees its rows.
    end_ms
        End of the test window.
    """

    warm_up_ms: int
    train_ms: int
    tune_ms: int
    gap_ms: int
    test_ms: int
    end_ms: int

    @property
    def train_length_ms(self) -> int:
        """How much time a strategy learns from."""
        return self.tune_ms - self.train_ms

    @property
    def tune_length_ms(self) -> int:
        """How much time a threshold is tuned on."""
        return self.gap_ms - self.tune_ms

    @property
    def test_days(self) -> int:
        """Length of the test window."""
        return (self.end_ms - self.test_ms) // MS_PER_DAY

    @classmethod
    def over(cls, first_ms: int, last_ms: int, delay: Delay, shares: Shares | None = None) -> Windows:
        """Lay the windows over a stretch of time, in whole days (UTC).

        Parameters
        ----------
        first_ms, last_ms
            Of the first and the last transaction.
        delay
            The gap is the whole days that it takes, or longer where `shares` say so.
        shares
            Of the days without the gap; None for the usual ones.

        Raises
        ------
        SettingsError
            The stretch is too short.
        """
        change = "" if shares is None else f"change --windows = {shares}, or "
        shares = shares or Shares()
        first_day = first_ms // MS_PER_DAY
        days = require_days(first_ms, last_ms)
        gap = max(-(-delay.ms // MS_PER_DAY), math.ceil(shares.gap_days or 0.0))
        # The running sum is rounded, not each window: no day is lost.
        ends = np.round(np.cumsum(shares.of_windows) / sum(shares.of_windows) * (days - gap)).astype(np.int64)
        lengths = np.diff(ends, prepend=0)
        if days <= gap or lengths[1:].min() < 1:
            raise SettingsError(
                f"the transactions span {days} days and {delay}: that leaves no day for one of the windows; "
                f"{change if days > gap else ''}give a longer file"
            )
        warm_up, train, tune, test = (int(day) for day in lengths)
        if test < _LEAST_TEST_DAYS:
            raise SettingsError(
                f"the transactions span {days} days and {delay}: that leaves a test window of {test} day, and the "
                f"intervals of a comparison, which are over days, need {_LEAST_TEST_DAYS}; {change}give a longer file"
            )
        starts = np.cumsum([first_day, warm_up, train, tune, gap, test]) * MS_PER_DAY
        return cls(*(int(start) for start in starts))

    def counted(
        self, times_ms: NDArray[np.int64], verdicts: Verdicts, truth: NDArray[np.bool_]
    ) -> tuple[Window, ...]:
        """Return the windows with the rows and frauds that each has.

        Parameters
        ----------
        times_ms : int64 (n,)
            Of the usable rows: transactions whose truth is known.
        verdicts
            Of those rows.
        truth : bool (n,)
            Whether they are frauds.

        Raises
        ------
        SettingsError
            A window has too few frauds or legits.
        """
        windows = (
            Window("warm-up", self.warm_up_ms, self.train_ms, 0, 0),
            self._learnt("train", self.train_ms, self.tune_ms, self.tune_ms, times_ms, verdicts),
            self._learnt("tune", self.tune_ms, self.gap_ms, self.test_ms, times_ms, verdicts),
            Window("gap", self.gap_ms, self.test_ms, 0, 0),
            self._judged(times_ms, truth),
        )
        for window in windows:
            if window.name not in ("warm-up", "gap"):
                _require_both_classes(window)
        return windows

    def _learnt(
        self,
        name: str,
        start_ms: int,
        end_ms: int,
        now_ms: int,
        times_ms: NDArray[np.int64],
        verdicts: Verdicts,
    ) -> Window:
        rows = learnable(times_ms, verdicts, start_ms, end_ms, now_ms)
        frauds = int(np.count_nonzero(verdicts.take(rows).fraud(now_ms)))
        return Window(name, start_ms, end_ms, len(rows), frauds)

    def _judged(self, times_ms: NDArray[np.int64], truth: NDArray[np.bool_]) -> Window:
        judged = times_ms >= self.test_ms
        return Window(
            "test",
            self.test_ms,
            self.end_ms,
            int(np.count_nonzero(judged)),
            int(np.count_nonzero(truth[judged])),
        )


def shares_that_do(
    span_ms: tuple[int, int],
    delay: Delay,
    times_ms: NDArray[np.int64],
    verdicts: Verdicts,
    truth: NDArray[np.bool_],
    gap_days: float | None = None,
) -> Shares | None:
    """Return proportions by which every window has enough of both classes; None where none of those tried does.

    Parameters
    ----------
    span_ms
        Of the first and the last transaction.
    delay
        As `Windows.over` takes it.
    times_ms, verdicts, truth
        As `Windows.counted` takes them.
    gap_days
        Of the gap, where it was chosen.
    """
    for proportions in _OTHER_SHARES:
        shares = proportions._replace(gap_days=gap_days)
        with suppress(SettingsError):
            Windows.over(*span_ms, delay, shares).counted(times_ms, verdicts, truth)
            return shares
    return None


def what_helps(
    span_ms: tuple[int, int],
    delay: Delay,
    times_ms: NDArray[np.int64],
    verdicts: Verdicts,
    truth: NDArray[np.bool_],
    gap_days: float | None = None,
) -> str:
    """Return what helps where a window has too few of a class; parameters as of `shares_that_do`."""
    others = shares_that_do(span_ms, delay, times_ms, verdicts, truth, gap_days)
    if others is None:
        return f"{delay}, and no other --windows that were tried would do: give a longer file"
    return f"give a longer file, or change the proportions by --windows, of which {others} would do"


def learnable(
    times_ms: NDArray[np.int64], verdicts: Verdicts, start_ms: int, end_ms: int, now_ms: int
) -> NDArray[np.int64]:
    """Return the rows of a stretch of time whose verdict has matured by `now_ms`, int64 (m,)."""
    return np.flatnonzero((times_ms >= start_ms) & (times_ms < end_ms) & verdicts.mature(now_ms))


def delay_of(dataset: Dataset, negatives_after_ms: int) -> Delay:
    """Return the age at which a verdict counts: the labels' delay if it is one.

    Where delays vary it is `negatives_after_ms`, or in whole days what nine in ten fraud labels take if that is longer:
    of younger rows, strategies would learn most frauds as legit. That takes all labels, those of the test window too,
    as users know how late their chargebacks come. It lays the windows out, alike for all strategies, and is no leak:
    no strategy sees a label before it came.

    Raises
    ------
    SettingsError
        No row has a label.
    """
    if dataset.label_time_ms is None or dataset.is_fraud is None or not dataset.labelled.any():
        raise SettingsError(
            "no transaction has a label: name the column of the truth by --fraud-column, or a file by --labels; "
            "label.label and [label.values] name its words of fraud and legit; outcomes alone say nothing of the truth"
        )
    labelled = dataset.labelled
    delays_ms = (dataset.label_time_ms - dataset.event_time_ms)[labelled]
    if delays_ms.max() - delays_ms.min() <= _SAME_MS:
        return Delay(max(int(delays_ms.max()), 0), varies=False)
    of_frauds_ms = delays_ms[dataset.is_fraud[labelled]]
    taken_ms = float(np.quantile(of_frauds_ms, _LABELLED)) if len(of_frauds_ms) else 0.0
    if taken_ms <= negatives_after_ms:
        return Delay(negatives_after_ms, varies=True)
    return Delay(math.ceil(taken_ms / MS_PER_DAY) * MS_PER_DAY, varies=True, by_frauds=True)


def _require_both_classes(window: Window) -> None:
    for count, what in ((window.frauds, "frauds"), (window.rows - window.frauds, "legitimate transactions")):
        if count < LEAST_FRAUDS:
            # The test is judged by every label there is.
            arrived = "" if window.name == "test" else " whose label had arrived in time"
            raise SettingsError(
                f"the {window.name} window, {_day(window.start_ms)} to {_day(window.end_ms)}, has {count} {what}"
                f"{arrived}: a comparison needs {LEAST_FRAUDS} in each window"
            )


def _day(time_ms: int) -> str:
    return str(np.datetime64(time_ms, "ms").astype("datetime64[D]"))
