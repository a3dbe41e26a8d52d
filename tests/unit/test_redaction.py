from __future__ import annotations

import random

import pytest

from worker.redaction import looks_like_card_number, redact, redact_bytes

# Published test numbers of the card schemes.
CARDS = ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "4222222222222"]


@pytest.mark.parametrize(
    "card",
    [
        *CARDS,
        "6304000000000000000",
        "4111 1111 1111 1111",
        "3782-822463-10005",
        "tok_4111111111111111",
        "4111-111111111111",
    ],
)
def test_a_card_number_is_no_token(card: str) -> None:
    assert looks_like_card_number(card)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "4111111111111112",
        "411111111111",
        "41111111111111111111",
        "tok_4111111111111112",
        "5111111111111",
    ],
)
def test_a_token_is_no_card_number(token: str) -> None:
    assert not looks_like_card_number(token)


def test_the_check_digit_agrees_with_a_plain_luhn_sum() -> None:
    rng = random.Random(5)
    for _ in range(2_000):
        digits = [4, *(rng.randrange(10) for _ in range(rng.choice([12, 15, 18])))]
        total = 0
        for place, digit in enumerate(reversed(digits)):
            doubled = digit * 2 if place % 2 else digit
            total += doubled // 10 + doubled % 10
        text = "".join(map(str, digits))
        assert looks_like_card_number(text) == (total % 10 == 0)


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_keeps_its_last_four_digits(card: str) -> None:
    hidden = "*" * (len(card) - 4) + card[-4:]
    assert redact(f'{{"card_id": "{card}"}}') == f'{{"card_id": "{hidden}"}}'
    assert redact(f"{card},{card}.0 x{card}y") == f"{hidden},{hidden}.0 x{hidden}y"


def test_grouped_digits_keep_their_groups() -> None:
    assert redact("pan 4111 1111 1111 1111.") == "pan **** **** **** 1111."
    assert redact("pan 3782-822463-10005") == "pan ****-******-*0005"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "offset 411111111111 of 12",
        "94111111111111111119111111111111111111",
        '{"score": 0.4111111111111111, "other": [-1.4111111111111111e-2 , 0.4111111111111111]}',
        "at 1700000000000, 1700000000000000 and 1700000000000000000",
        "at 1700000000006 and 1700000000014",
        "",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "v1.{}-A",
        "score 0.{}",
        "a, 1.{}, b",
        '{{"card_id": "v1.{}-A"}}',
        '{{"note": "a, 1.{}, b"}}',
        '{{"note": "one \\" two: 1.{}, b"}}',
        '{{"note": "\\\\", "other": "1.{}"}}',
        '{{"pan": 1.{}',
        '{{"pan": x1.{}}}',
        '{{" "note":"ref:0.{},"}}',
        "[card:1.{}, x",
    ],
)
def test_a_card_number_behind_a_point_is_struck_out_unless_it_is_part_of_a_number(text: str) -> None:
    card = "4111111111111111"
    assert redact(text.format(card)) == text.format("************1111")


def test_bytes_keep_their_length_and_whatever_is_not_a_card_number() -> None:
    every = bytes(range(256))
    assert redact_bytes(every) == every
    assert redact_bytes(b"\xff4111111111111111\xfe") == b"\xff************1111\xfe"
