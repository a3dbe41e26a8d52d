"""The records of the model log: everything that a worker shares, and everything that a model state is folded from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns, Wide
from models.examples import Examples
from models.feature_layout import FeatureSpec
from models.ledger import LedgerDeltas, summed
from models.payoff_deltas import PayoffDeltas
from models.threshold import BINS, CostPolicy

FOLD_VERSION = 29
"""The version of folds and features: a change of their meaning raises it, and so begins a new lineage."""

_MONEY_BYTES: Final = 32 << 10
"""Of a piece of a commit, beside its rows: ordinary days take a few hundred."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What shapes features and learning: workers that share a model log must agree on it."""

    spec: FeatureSpec
    key_fingerprint: str
    fraud_weight: float
    fold_version: int = FOLD_VERSION

    def describe(self) -> dict[str, object]:
        """Return plain values by name, as the log's first record carries them."""
        # Places and ages are optional, and logs without them are as they were before there were any.
        optional = {"place", "ages"}
        spec = {
            name: list(value) for name, value in asdict(self.spec).items() if value or name not in optional
        }
        return {
            **spec,
            "key_fingerprint": self.key_fingerprint,
            "fraud_weight": self.fraud_weight,
            "fold_version": self.fold_version,
        }

    @property
    def id(self) -> str:
        """Hash of the description: 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Policy:
    """Costs, horizons, sampling and bounds: a restart may change them; they are in force from their record's offset.

    Attributes
    ----------
    sample_one_in
        Legit decisions kept as examples, at least 1 in n; None lets it follow from traffic, memory and `max_examples`.
    memory_ms
        How far back a generation learns.
    silence_is_legit
        Whether silence becomes legit; otherwise a decision without a label is never learnt and ends unresolved.
    max_cards
        Cards of one partition whose aggregates stay in memory.
    """

    costs: CostPolicy
    case_window_ms: int
    negatives_after_ms: int
    horizon_ms: int
    max_silence_ms: int
    sample_one_in: int | None
    min_frauds: int
    max_entities: int
    max_examples: int
    memory_ms: int
    silence_is_legit: bool
    max_cards: int

    def compares_like(self, other: Policy) -> bool:
        """Return whether days under the other policy compare the ways of alerting as days under this one do.

        They do not where a price is another, where cases last longer or shorter, and where there is a budget under one
        of the two only: without it the forest never alerts.
        """
        return self._compared_by == other._compared_by

    @property
    def _compared_by(self) -> tuple[float, float, float, bool, int]:
        costs = self.costs
        is_limited = costs.alert_budget_cases_per_day is not None
        return costs.review_cost, costs.loss_fixed, costs.loss_factor, is_limited, self.case_window_ms

    def to_json(self) -> dict[str, object]:
        """Return plain values by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Policy:
        """Undo `to_json`."""
        plain = dict(values)
        costs = plain.pop("costs")
        return cls(costs=CostPolicy(**costs), **plain)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Evidence(Columns):
    """m changes of label evidence.

    Attributes
    ----------
    hashes : uint64 (m, 1 + E)
        The card and the declared entities of the decision.
    frauds, legits : int8 (m,)
        What to add; negative to take evidence back.
    at_ms : int64 (m,)
        The clock at which the evidence was learnt.
    """

    hashes: Annotated[NDArray[np.uint64], Wide("hashes")]
    frauds: NDArray[np.int8]
    legits: NDArray[np.int8]
    at_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EntityEvents(Columns):
    """The entities and times of n decided transactions, which the shared aggregates count.

    A commit carries the events themselves and not their sums: 8 bytes an entity and 8 more a transaction is smaller
    than decayed sums of several half-lives unless entities repeat often within a commit, and folding them is exact.

    Attributes
    ----------
    entities : uint64 (n, E)
    event_time_ms : int64 (n,)
    """

    entities: Annotated[NDArray[np.uint64], Wide("entities")]
    event_time_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Budget:
    """What the alert budget counts of one commit.

    Attributes
    ----------
    online, forest : float64 (256,)
        Histograms of the online model's ratios and of the forest's ranks, see `models.threshold`.
    alerts, cases
        Alerts without those that needed an open case, and alerts that opened one.
    """

    online: NDArray[np.float64]
    forest: NDArray[np.float64]
    alerts: int
    cases: int

    @classmethod
    def empty(cls) -> Budget:
        """Return the counts of a commit without a decision."""
        return cls(np.zeros(BINS), np.zeros(BINS), 0, 0)


@dataclass(frozen=True, slots=True)
class Digest:
    """Hash of the model state after a log offset, hexadecimal."""

    offset: int
    value: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One worker's commit.

    Attributes
    ----------
    worker
        The worker's `worker.id`.
    clocks_ms
        The clock of each partition that the worker owns.
    newest_label_ms
        The time of the newest label that the worker has applied, outcomes aside; None without one.
    digest
        Of the worker's model state, which the others compare with theirs; None most of the time.
    """

    worker: str
    clocks_ms: Mapping[int, int]
    newest_label_ms: int | None
    traffic: EntityEvents
    evidence: Evidence
    examples: Examples
    ledger: LedgerDeltas
    payoff: PayoffDeltas
    budget: Budget
    digest: Digest | None = None

    def split(self, piece_bytes: int) -> Iterator[Commit]:
        """Cut into commits that fold to the same state, to the bit; the last row of each may exceed `piece_bytes`.

        As within one commit, the traffic is folded first, then the evidence, then the examples. Where the money is of
        hundreds of days, sums over merged days round otherwise, and the day's policy is chosen by the first days.
        """
        # The rows of all kinds lie behind one another, in the order in which one commit folds them, and are cut there
        # every so many bytes. What the money's folds count and the digest go with the first piece; what is too much for
        # it, as where somebody sends payments of all days since 1970, comes behind.
        (ledger, payoff), *behind = self._money_by_days()
        first = replace(self, ledger=ledger, payoff=payoff)
        kinds = (self.traffic, self.evidence, self.examples)
        *begins, end = accumulate((len(rows) * rows.row_bytes for rows in kinds), initial=0)
        rest = replace(
            self, ledger=summed([]), payoff=PayoffDeltas.nothing(), budget=Budget.empty(), digest=None
        )
        for start in range(0, max(end, 1), piece_bytes):
            traffic, evidence, examples = (
                (_first_row(rows, start - begin), _first_row(rows, start + piece_bytes - begin))
                for rows, begin in zip(kinds, begins, strict=True)
            )
            yield replace(
                rest if start else first,
                traffic=self.traffic.rows(*traffic),
                evidence=self.evidence.rows(*evidence),
                examples=self.examples.rows(*examples),
            )
        nothing = replace(
            rest,
            traffic=self.traffic.rows(0, 0),
            evidence=self.evidence.rows(0, 0),
            examples=self.examples.rows(0, 0),
        )
        for ledger, payoff in behind:
            yield replace(nothing, ledger=ledger, payoff=payoff)

    def _money_by_days(self) -> list[tuple[LedgerDeltas, PayoffDeltas]]:
        """Cut what the money's folds count between days, in their order: a day closes by all that is said of it."""
        ledger, payoff = self.ledger, self.payoff
        days = np.unique(np.concatenate([ledger.day, ledger.decided_day, payoff.day]))
        of_payoff = np.bincount(np.searchsorted(days, payoff.day), minlength=len(days))
        ends = np.cumsum(ledger.bytes_of_days(days) + of_payoff * payoff.row_bytes)
        if not len(days) or ends[-1] <= _MONEY_BYTES:
            return [(ledger, payoff)]
        cuts = np.flatnonzero(np.diff(ends // _MONEY_BYTES, prepend=0))
        parts = [it for it in np.split(days, cuts) if len(it)]
        return [
            (
                ledger.of_days(int(it[0]), int(it[-1])),
                payoff.take((payoff.day >= it[0]) & (payoff.day <= it[-1])),
            )
            for it in parts
        ]


def _first_row(rows: Columns, byte: int) -> int:
    """Return the first of the rows that begins at `byte` or later; their number where none does."""
    return max(0, min(len(rows), -(-byte // rows.row_bytes)))


@dataclass(frozen=True, slots=True)
class Refit:
    """A part of the model learnt off the hot path, in force from the offset of its record's last piece.

    Attributes
    ----------
    kind
        `generation` (online model and calibration) or `forest`.
    cut_offset
        The last log offset whose examples it has learnt.
    clock_ms
        The model log's clock when its job was made.
    arrays
        The numbers that it consists of, by name.
    """

    kind: Literal["generation", "forest"]
    cut_offset: int
    clock_ms: int
    arrays: Mapping[str, NDArray[np.generic]]


ModelRecord = Lineage | Policy | Commit | Refit
