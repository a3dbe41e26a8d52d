from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from models.columns import Columns, Shared, Wide
from worker.columns import ArrowColumns


@dataclass(frozen=True, slots=True)
class Pairs(Columns):
    number: NDArray[np.int64]
    pair: Annotated[NDArray[np.float32], Wide("values")]
    common: Annotated[NDArray[np.int64], Shared()]


@dataclass(frozen=True, slots=True)
class Named(ArrowColumns):
    number: NDArray[np.int64]
    name: pa.Array
    nickname: pa.Array | None


def pairs(*numbers: int) -> Pairs:
    values = np.array(numbers, np.int64)
    return Pairs(values, np.column_stack([values, values]).astype(np.float32), np.arange(9))


def named(*numbers: int) -> Named:
    return Named(
        np.array(numbers, np.int64), pa.array([f"n{number}" for number in numbers], pa.string()), None
    )


def test_rows_and_take_choose_whole_rows_and_keep_what_is_shared() -> None:
    chosen = pairs(1, 2, 3).take(np.array([2, 0]))
    assert chosen.number.tolist() == [3, 1]
    assert chosen.pair.tolist() == [[3, 3], [1, 1]]
    assert chosen.common.tolist() == [*range(9)]
    assert pairs(1, 2, 3).rows(1, 3).number.tolist() == [2, 3]
    assert pairs(1, 2, 3).take(np.array([True, False, True])).number.tolist() == [1, 3]
    assert len(pairs(1, 2, 3)) == 3


def test_rows_are_views() -> None:
    whole = pairs(1, 2, 3)
    assert np.shares_memory(whole.rows(0, 2).pair, whole.pair)


def test_parts_are_joined_in_their_order() -> None:
    joined = Pairs.concatenate([pairs(1, 2), pairs(), pairs(3)])
    assert joined.number.tolist() == [1, 2, 3]
    assert joined.pair.shape == (3, 2)
    assert joined.common.tolist() == [*range(9)]
    only = pairs(7)
    assert Pairs.concatenate([only]) is only


@dataclass(frozen=True, slots=True)
class Examples(Columns):
    number: NDArray[np.int64]
    pair: Annotated[NDArray[np.float32], Wide("values")]


def test_no_parts_make_an_empty_set_of_the_declared_types_and_widths() -> None:
    empty = Examples.concatenate([], values=4)
    assert empty.number.dtype == np.int64
    assert empty.number.shape == (0,)
    assert empty.pair.dtype == np.float32
    assert empty.pair.shape == (0, 4)
    with pytest.raises(KeyError, match="values"):
        Examples.empty()


def test_arrow_columns_are_chosen_and_joined_like_the_others() -> None:
    joined = Named.concatenate([named(1, 2), named(3)])
    assert joined.name.to_pylist() == ["n1", "n2", "n3"]
    assert joined.take(np.array([2, 1])).name.to_pylist() == ["n3", "n2"]
    assert joined.take(np.array([True, False, True])).name.to_pylist() == ["n1", "n3"]
    assert joined.take(slice(1, None)).name.to_pylist() == ["n2", "n3"]
    assert joined.take(np.array([0])).nickname is None
    assert Named.empty().name.to_pylist() == []
