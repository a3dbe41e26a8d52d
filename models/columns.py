"""Rows as columns: the shared base of the dataclasses that hold n rows as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, Self, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64] | NDArray[np.bool_] | slice


@dataclass(frozen=True, slots=True)
class Wide:
    """Marks a column of which a row holds several values, and names their number."""

    width: str


@dataclass(frozen=True, slots=True)
class Shared:
    """Marks an array that is no column: it belongs to the whole set."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The type of a column's values, and the name of its width where a row holds several."""

    dtype: np.dtype[Any]
    width: str | None = None

    def shape(self, count: int, widths: dict[str, int]) -> tuple[int, ...]:
        """Return the shape of `count` rows."""
        return (count,) if self.width is None else (count, widths[self.width])


class Columns:
    """The base of frozen dataclasses that hold n rows: every field annotated as an array has one entry a row.

    Fields of other types, and those marked `Shared`, belong to the whole set: a choice of rows leaves them as they are.
    """

    __slots__ = ()

    @classmethod
    def layout(cls) -> dict[str, Layout]:
        """Return the layout of every column by name, in the order of declaration."""
        return _layout(cls)  # type: ignore[arg-type] # mypy takes a class for unhashable

    def __len__(self) -> int:
        return len(getattr(self, next(iter(self.layout()))))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row; of the longest one where their lengths differ."""
        return sum(self._longest_bytes(getattr(self, name)) for name in self.layout())

    def rows(self, start: int, stop: int) -> Self:
        """Return rows `start` to `stop` (excluded) as views."""
        return self.take(slice(start, stop))

    def take(self, rows: Index) -> Self:
        """Return the rows chosen by index, mask or slice, in that order."""
        columns = {name: self._chosen(getattr(self, name), rows) for name in self.layout()}
        return replace(self, **columns)  # type: ignore[type-var]

    @classmethod
    def empty(cls, **widths: int) -> Self:
        """Return no rows; for a class that has nothing but columns.

        Parameters
        ----------
        **widths
            For each width that the columns name, how many values a row holds.
        """
        return cls(**{name: cls._nothing(it, it.shape(0, widths)) for name, it in cls.layout().items()})

    @classmethod
    def concatenate(cls, parts: Sequence[Self], **widths: int) -> Self:
        """Join the rows of all parts in their order; what they share is the last part's.

        Parameters
        ----------
        parts
            Without any, the result is `empty`.
        **widths
            As in `empty`.
        """
        if not parts:
            return cls.empty(**widths)
        if len(parts) == 1:
            return parts[0]
        columns = {name: cls._joined([getattr(it, name) for it in parts]) for name in cls.layout()}
        return replace(parts[-1], **columns)  # type: ignore[type-var]

    # What depends on the type of a column: a subclass adds columns that are no numpy arrays.

    @classmethod
    def _layout_of(cls, hint: Any) -> Layout | None:
        """Return the layout that a field's annotation asks for; None for a field that is no column."""
        array, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if get_origin(array) is not np.ndarray or any(isinstance(note, Shared) for note in notes):
            return None
        [dtype] = get_args(get_args(array)[1])
        return Layout(np.dtype(dtype), next((note.width for note in notes if isinstance(note, Wide)), None))

    @classmethod
    def _nothing(cls, layout: Layout, shape: tuple[int, ...]) -> Any:
        return np.empty(shape, layout.dtype)

    @classmethod
    def _chosen(cls, values: Any, rows: Index) -> Any:
        return values[rows]

    @classmethod
    def _longest_bytes(cls, values: Any) -> int:
        return int(values.itemsize * np.prod(values.shape[1:], dtype=np.int64))

    @classmethod
    def _joined(cls, parts: list[Any]) -> Any:
        return np.concatenate(parts)


@cache
def _layout(cls: type[Columns]) -> dict[str, Layout]:
    hints = get_type_hints(cls, include_extras=True)
    layouts = {it.name: cls._layout_of(hints[it.name]) for it in fields(cls)}  # type: ignore[arg-type]
    return {name: layout for name, layout in layouts.items() if layout is not None}
