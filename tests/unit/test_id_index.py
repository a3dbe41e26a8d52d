from __future__ import annotations

import numpy as np
import pytest

from worker.partition.id_index import ROWS_A_WORD, _bits, _word, find_ids, index_ids

ROWS = 4_096


@pytest.fixture
def ids() -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Twice as many ids as a segment holds: the first half is indexed."""
    return np.random.default_rng(3).integers(0, 1 << 64, 2 * ROWS, dtype=np.uint64)


def test_every_id_is_found_and_the_filter_answers_for_nearly_all_that_are_not_there(
    ids: np.ndarray[tuple[int], np.dtype[np.uint64]],
) -> None:
    slots, words = np.zeros(2 * ROWS, np.uint32), np.zeros(ROWS // ROWS_A_WORD, np.uint64)
    index_ids(slots, words, ids, 0, ROWS // 2)
    index_ids(slots, words, ids, ROWS // 2, ROWS)
    found = np.empty(2 * ROWS, np.int64)
    find_ids(slots, words, ids, ids, ids, ids, ids, ids, found)
    assert found.tolist() == [*range(ROWS), *[-1] * ROWS]
    passed = [words[int(_word(it, len(words)))] & _bits(it) == _bits(it) for it in ids]
    assert all(passed[:ROWS])
    # 8 rows set 24 of 64 bits, some of them twice: 31 % are set, and three of them by chance in 3 %.
    assert 0.02 < np.mean(passed[ROWS:]) < 0.05


def test_ascending_ids_have_ascending_words_so_that_a_search_goes_through_the_filter_once(
    ids: np.ndarray[tuple[int], np.dtype[np.uint64]],
) -> None:
    words = [int(_word(it, 512)) for it in np.sort(ids)]
    assert words == sorted(words)
    assert set(words) == set(range(512))
