"""Text that others wrote, as a terminal may show it."""

from __future__ import annotations

import pytest

from worker.redaction import printable
from worker.view.foreign_text import printable_bytes, short_id, shortened

CARD = "4111111111111111"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café 北京 [bold]", "café 北京 [bold]"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x9b31m", r"\x9b31m"),  # a control sequence in one character
        ("evil\u202egpj", r"evil\u202egpj"),  # turns the direction of what follows
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("lone \ud800", r"lone \ud800"),
        (f"card {CARD}", "card ************1111"),
    ],
)
def test_what_does_not_print_is_written_as_an_escape_and_card_numbers_are_redacted(
    text: str, shown: str
) -> None:
    assert printable(text) == shown


def test_bytes_that_are_no_text_are_written_as_escapes() -> None:
    assert printable_bytes(b'{"a": "\xff\xc3\xa9\x00"}') == r'{"a": "\xffé\x00"}'
    assert printable_bytes(CARD.encode()) == "************1111"


def test_a_card_number_is_redacted_before_the_text_is_cut() -> None:
    assert shortened(f"x{CARD}" * 3, 12) == "x*********.."
    assert short_id(f"-{CARD}-", 8) == "-**..11-"


def test_short_texts_stay_whole_and_long_identifiers_keep_both_ends() -> None:
    assert shortened("twelve chars", 12) == "twelve chars"
    assert short_id("card-0000176", 12) == "card-0000176"
    assert short_id("card-000000176", 12) == "card-..00176"
