"""The names that a user's settings give to simulated fields."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import pyarrow as pa

from worker.errors import SettingsError
from worker.offline.dataset import Dataset
from worker.offline.undeclared import TRUTH
from worker.settings.fields import TransactionFields
from worker.simulation.simulator import FIELDS

CURRENCY: Final = "EUR"
_TEXTS: Final = (*FIELDS.entities, *FIELDS.categorical)
_MERCHANT: Final = "merchant_id"


@dataclass(frozen=True, slots=True)
class Naming:
    """Names of the simulated fields.

    Attributes
    ----------
    fields
        The user's settings.
    names
        The user's name of each simulated field; one that is not declared keeps its own.
    missing
        Declared fields that are not simulated.
    undeclared
        Simulated fields that the settings do not declare; a worker ignores them.
    """

    fields: TransactionFields
    names: dict[str, str]
    missing: tuple[str, ...]
    undeclared: tuple[str, ...]

    @classmethod
    def under(cls, fields: TransactionFields) -> Self:
        """Match fields by name; the first entity is the merchant if neither has a match of its own.

        Raises
        ------
        SettingsError
            The settings use a name that the simulator writes for another field.
        """
        texts, numbers = (*fields.entities, *fields.categorical), fields.numeric
        names = {name: name for name in _TEXTS if name in texts} | {
            name: name for name in FIELDS.numeric if name in numbers
        }
        if _MERCHANT not in names and fields.entities and fields.entities[0] not in names:
            names[_MERCHANT] = fields.entities[0]
        undeclared = tuple(name for name in (*_TEXTS, *FIELDS.numeric) if name not in names)
        missing = tuple(name for name in (*texts, *numbers) if name not in names.values())
        whole = {name: name for name in undeclared} | names
        _require_distinct(fields, [*whole.values(), *TRUTH])
        return cls(fields, whole, missing, undeclared)

    def of(self, dataset: Dataset) -> Dataset:
        """Return simulated transactions under these names."""
        return replace(
            dataset,
            fields=self.fields,
            currency=None if self.fields.currency is None else pa.repeat(CURRENCY, len(dataset)),
            entities={self.names[name]: column for name, column in dataset.entities.items()},
            categorical={self.names[name]: column for name, column in dataset.categorical.items()},
            numeric={self.names[name]: column for name, column in dataset.numeric.items()},
        )


def _require_distinct(fields: TransactionFields, written: list[str]) -> None:
    for setting in ("transaction_id", "card_id", "event_time", "amount", "currency"):
        name = getattr(fields, setting)
        if name in written:
            raise SettingsError(
                f"transaction.{setting} = {name!r}: the simulator writes another field of that name; "
                "simulate under another name"
            )
