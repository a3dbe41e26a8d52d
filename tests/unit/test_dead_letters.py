"""The list of dead letters that an operator sees."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from worker.view.dead_letter_text import listing, redacted_json, summary, table
from worker.wire.dead_letters import Wanted, letters
from worker.wire.schema import DeadLetter

CARD = "4111111111111111"


def letter(
    offset: int, reason: str = "not_json", stage: str = "decode", value: bytes | None = b"{"
) -> DeadLetter:
    return DeadLetter.of(
        value,
        topic="transactions",
        partition=1,
        offset=offset,
        timestamp_ms=1_704_164_882_000,
        stage=stage,
        reason=reason,
        detail="what is wrong",
    )


def records(*letters: DeadLetter | bytes | None) -> list[Any]:
    values = [it.to_json() if isinstance(it, DeadLetter) else it for it in letters]
    return [SimpleNamespace(value=value, headers=[]) for value in values]


def printed(renderable: Any) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=300).print(renderable)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


MIXED = records(
    letter(1), letter(2, "orphan_label", "settle"), letter(3), letter(4, "bad_time"), b"no letter", None
)


def test_the_newest_are_kept_and_all_are_counted() -> None:
    found = listing(MIXED, most=2)
    assert [it.offset for it in found.letters] == [3, 4]
    assert found.counts == {
        ("decode", "not_json"): 2,
        ("settle", "orphan_label"): 1,
        ("decode", "bad_time"): 1,
        ("-", "unreadable"): 2,
    }
    assert (found.total, found.others) == (6, {})


@pytest.mark.parametrize(
    ("wanted", "offsets"),
    [
        ({"stage": "settle"}, [2]),
        ({"reason": "not_json"}, [1, 3]),
        ({"stage": "settle", "reason": "not_json"}, []),
    ],
)
def test_a_stage_and_a_reason_choose(wanted: dict[str, str], offsets: list[int]) -> None:
    found = listing(MIXED, most=9, wanted=Wanted(**wanted))
    assert [it.offset for it in found.letters] == offsets
    assert (found.total, found.others.total()) == (len(offsets), 6 - len(offsets))
    assert [it.offset for it in letters(MIXED, Wanted(**wanted))] == offsets


def test_each_is_yielded_before_the_next_is_read() -> None:
    def endless() -> Iterator[Any]:
        while True:
            yield from MIXED

    assert [it.offset for it in islice(letters(endless(), Wanted()), 5)] == [1, 2, 3, 4, 1]


def test_a_row_shows_where_why_and_how_the_record_begins() -> None:
    head, row = printed(table([letter(7, value=b'{"id": "a\xff')]))
    assert head.split() == ["when", "record", "stage", "reason", "error", "begins", "with"]
    assert row == (
        "2024-01-02 03:08:02Z  transactions-1@7  decode  not_json  what is wrong  " + r'{"id": "a\xff'
    )


def test_a_record_without_a_value_is_shown_as_such() -> None:
    assert printed(table([letter(7, value=None)]))[1].endswith("(no value)")


def test_the_counts_begin_with_the_most_frequent() -> None:
    assert [line.split() for line in printed(summary(listing(MIXED, most=0).counts))] == [
        ["count", "stage", "reason"],
        ["2", "decode", "not_json"],
        ["2", "-", "unreadable"],
        ["1", "settle", "orphan_label"],
        ["1", "decode", "bad_time"],
    ]


def tampered() -> DeadLetter:
    """Return one that another program wrote, with card numbers."""
    return letter(1).model_copy(
        update={
            "original": base64.b64encode(f"\x1b[2J[red]{CARD}".encode()).decode(),
            "detail": f"[bold]\x1b]0;title\x07 {CARD}",
            "topic": "\x9b31m",
            "reason": f"\u202e {CARD}",
        }
    )


def test_what_others_wrote_neither_steers_the_terminal_nor_shows_a_card_number() -> None:
    [read] = listing(records(tampered()), most=9).letters
    text = "\n".join(printed(table([read])))
    assert CARD not in text
    assert r"\x1b[2J[red]************1111" in text
    assert r"[bold]\x1b]0;title\x07" in text
    assert text.replace("\n", "").isprintable()


def test_json_is_the_letter_of_the_topic_with_card_numbers_redacted_again() -> None:
    assert redacted_json(letter(5)) == letter(5).to_json()
    assert json.loads(redacted_json(letter(5, value=None)))["original"] is None
    written = json.loads(redacted_json(tampered()))
    assert CARD not in written["detail"] + written["reason"]
    assert redacted_json(tampered()).decode().isprintable()
    assert base64.b64decode(written["original"]) == b"\x1b[2J[red]************1111"


def test_an_original_that_is_not_base64_is_unreadable() -> None:
    found = listing(records(letter(1).model_copy(update={"original": "no base64!"})), most=9)
    assert found.counts == {("-", "unreadable"): 1}
