"""Sets of columns of which some are Arrow arrays: texts and raw bytes beside numbers."""

from __future__ import annotations

from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.columns import Columns, Index, Layout

_ARROW: Final = Layout(np.dtype(object))


class ArrowColumns(Columns):
    """`models.columns.Columns` in which fields annotated `pa.Array` are columns too, or None."""

    __slots__ = ()

    @classmethod
    def _layout_of(cls, hint: Any) -> Layout | None:
        return _ARROW if pa.Array in (hint, *get_args(hint)) else super()._layout_of(hint)

    @classmethod
    def _nothing(cls, layout: Layout, shape: tuple[int, ...]) -> Any:
        return pa.array([], pa.string()) if layout is _ARROW else super()._nothing(layout, shape)

    @classmethod
    def _chosen(cls, values: Any, rows: Index) -> Any:
        if values is None:
            return None
        if not isinstance(values, pa.Array) or isinstance(rows, slice):
            return super()._chosen(values, rows)
        # Arrow has two calls for what numpy does by one index.
        return values.filter(pa.array(rows)) if rows.dtype == np.bool_ else values.take(pa.array(rows))

    @classmethod
    def _longest_bytes(cls, values: Any) -> int:
        if values is None:
            return 0
        if not isinstance(values, pa.Array):
            return super()._longest_bytes(values)
        return 4 + (pc.max(pc.binary_length(values)).as_py() or 0)

    @classmethod
    def _joined(cls, parts: list[Any]) -> Any:
        if parts[0] is None:
            return None
        return pa.concat_arrays(parts) if isinstance(parts[0], pa.Array) else super()._joined(parts)
