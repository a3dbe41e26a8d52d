"""Card numbers in many spellings, planted in tokens and in bytes; and what only looks like one."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable

import pytest

from tests.support.records import record_columns
from worker.redaction import looks_like_card_number, redact, redact_bytes
from worker.settings.fields import TransactionFields
from worker.settings.sections import Settings
from worker.wire.decoder import Decoder

KEY = "000102030405060708090a0b0c0d0e0f"
ISSUED = [
    ("4", 16), ("4", 13), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15),
    ("6011", 16), ("65", 16), ("644", 16), ("300", 14), ("36", 14), ("3528", 16), ("62", 16), ("62", 19),
    ("5018", 16), ("6304", 16), ("6759", 18), ("2200", 16), ("60", 16), ("9792", 16),
]  # fmt: skip
SPELLINGS: list[Callable[[str], str]] = [
    lambda card: card,
    lambda card: f"tok_{card}",
    lambda card: f"tok{card}x",
    lambda card: f"{card}-01",
    lambda card: f"{card}|1225",
    lambda card: f"{card}=25121010000000000000",
    lambda card: f"%B{card}^NAME/A^2512",
    lambda card: card.zfill(19),
    lambda card: f"a b{card} c",
    lambda card: ".".join(card[i : i + 4] for i in range(0, len(card), 4)),
    lambda card: " ".join(card[i : i + 4] for i in range(0, len(card), 4)),
    lambda card: f"{card[:4]}-{card[4:10]} {card[10:]}",
    lambda card: " - ".join((card[:6], card[6:])),
    "_".join,
    lambda card: "\u00a0".join((card[:4], card[4:8], card[8:])),
    lambda card: "\u2013".join((card[:4], card[4:8], card[8:])),
    lambda card: card.translate({ord("0") + i: 0xFF10 + i for i in range(10)}),
    lambda card: card.translate({ord("0") + i: 0x660 + i for i in range(10)}),
]
ENCODINGS: list[Callable[[str], bytes]] = [
    lambda text: json.dumps({"card": text}).encode(),
    lambda text: json.dumps({"card": text}, ensure_ascii=False).encode(),
    lambda text: ('{"card":"' + "".join(f"\\u{ord(it):04x}" for it in text) + '"}').encode(),
    lambda text: text.encode("utf-16-le"),
    lambda text: text.encode("utf-16-be"),
    lambda text: text.encode("utf-16"),
    lambda text: b"\xff\x00" + text.encode() + b"\xfe",
]


def luhn_total(digits: str) -> int:
    """By the letter of ISO/IEC 7812-1."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 else 1)
        total += doubled // 10 + doubled % 10
    return total


def card_number(rng: random.Random) -> str:
    prefix, length = rng.choice(ISSUED)
    body = prefix + "".join(str(rng.randrange(10)) for _ in range(length - len(prefix) - 1))
    return next(body + str(digit) for digit in range(10) if luhn_total(body + str(digit)) % 10 == 0)


def plain(text: str) -> str:
    """All digits of a text, whatever script or escape they come in."""
    unescaped = re.sub(r"\\u([0-9a-f]{4})", lambda it: chr(int(it[1], 16)), text)
    return "".join(str(int(it)) for it in unescaped if it.isdecimal())


def test_no_planted_card_number_passes_as_a_token_or_through_redaction() -> None:
    rng = random.Random(11)
    decoder = Decoder(Settings(entity_key=KEY))
    passed, left = [], []
    keys, values = [], []
    for _ in range(10_000):
        card, spell, encode = card_number(rng), rng.choice(SPELLINGS), rng.choice(ENCODINGS)
        text = spell(card)
        keys.append(text.encode())
        values.append(
            json.dumps(
                {"transaction_id": "t", "card_id": text, "event_time": 1, "amount": 1.0},
                ensure_ascii=rng.random() < 0.5,
            ).encode()
        )
        # UTF-16 with the digits of other scripts is beyond redaction; no token comes in it.
        written = encode(text) if re.sub(r"[^0-9]", "", text) else text.encode()
        redacted = redact_bytes(written)
        if len(redacted) != len(written) or card[:-4] in plain(
            redacted.replace(b"\0", b"").decode("latin-1")
        ):
            left.append(written)
        if card in plain(redact(text)):
            left.append(text.encode())
        if not looks_like_card_number(text):
            passed.append(text)
    assert passed == []
    assert left == []
    columns, bad = decoder.transactions(record_columns(values, keys))
    assert columns.card_id.to_pylist() == []
    assert {it.reason for it in bad} == {"card_number"}


def look_alikes(rng: random.Random) -> list[str]:
    digits = "0123456789"
    imei = "35" + "".join(rng.choices(digits, k=12))
    merchant = rng.choice("0127") + "".join(rng.choices("3456789", k=1)) + "".join(rng.choices(digits, k=12))
    return [
        *(next(body + d for d in digits if luhn_total(body + d) % 10 == 0) for body in (imei, merchant)),
        str(uuid.UUID(int=rng.getrandbits(128))),
        f"{rng.getrandbits(256):064x}",
        f"{rng.getrandbits(128):032x}",
        str(rng.randrange(1_500_000_000_000, 1_999_999_999_999)),
        str(rng.randrange(1_500_000_000_000_000_000, 1_999_999_999_999_999_999)),
        f"+49{rng.randrange(10**10, 10**11)}",
        f"{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}",
        f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:59:59.123456Z",
        "".join(rng.choices(digits, k=12)),
        "1" + "".join(rng.choices(digits, k=rng.randrange(12, 24))),
        "".join(rng.choices(digits, k=20)),
    ]


def test_what_only_looks_like_a_card_number_passes_and_stays() -> None:
    rng = random.Random(12)
    caught = [text for _ in range(2_000) for text in look_alikes(rng) if looks_like_card_number(text)]
    assert caught == []
    assert [text for _ in range(200) for text in look_alikes(rng) if redact(text) != text] == []


def test_few_numbers_of_fifteen_digits_are_taken_for_cards() -> None:
    rng = random.Random(13)
    caught = sum(looks_like_card_number("".join(rng.choices("0123456789", k=15))) for _ in range(20_000))
    assert caught < 0.005 * 20_000


def test_a_field_whose_values_only_look_like_card_numbers_can_be_left_out() -> None:
    card = "4111111111111111"
    record = {
        "transaction_id": "t",
        "card_id": "c",
        "event_time": 1,
        "amount": 1.0,
        "ean": card,
        "merchant_id": "m",
    }
    value = json.dumps(record).encode()
    for not_searched, accepted in ((), 0), (("ean",), 1), (("card_id",), 0), (("ean", "card_id"), 1):
        fields = TransactionFields(entities=("merchant_id", "ean"), not_searched=not_searched)
        columns, bad = Decoder(Settings(entity_key=KEY, transaction=fields)).transactions(
            record_columns([value], [b"c"])
        )
        assert len(columns) == accepted
        assert [it.reason for it in bad] == ["card_number"] * (1 - accepted)


def test_labels_follow_the_transactions_in_what_is_searched() -> None:
    card = "4111111111111111"
    value = json.dumps(
        {"transaction_id": "t", "card_id": card, "label": "fraud", "source": "analyst", "label_time": 1}
    ).encode()
    for not_searched, accepted in ((), 0), (("card_id",), 1):
        fields = TransactionFields(not_searched=not_searched)
        columns, _ = Decoder(Settings(entity_key=KEY, transaction=fields)).labels(
            record_columns([value], [card.encode()])
        )
        assert len(columns) == accepted


def test_only_searched_fields_can_be_left_out() -> None:
    with pytest.raises(ValueError, match="not_searched: 'amount' is never searched"):
        TransactionFields(not_searched=("amount",))
