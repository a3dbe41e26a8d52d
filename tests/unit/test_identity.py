from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pyarrow as pa
import pytest

from worker.identity import Hasher
from worker.settings.sections import Settings
from worker.wire.decoder import Decoder

KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
"""The bytes 00 to 0f, as of SipHash's own test vectors."""
HASHER = Hasher(KEY)


def mac(message: bytes) -> str:
    return hmac.new(bytes(range(16)), message, hashlib.sha256).hexdigest()


def test_identifiers_are_hashed_by_siphash_under_the_entity_key() -> None:
    # From the appendix of the SipHash paper: the input is 00 01 ... 0e, the output a129ca6149be45e5.
    text = pa.array([bytes(range(15))], pa.binary())
    assert HASHER.entities(text).tolist() == [0xA129CA6149BE45E5]


def test_missing_and_empty_identifiers_hash_to_zero_and_no_other() -> None:
    hashes = HASHER.entities(pa.array(["a", None, "", "b"]))
    assert [bool(one) for one in hashes] == [True, False, False, True]
    assert HASHER.entities(pa.array([None, None], pa.string())).tolist() == [0, 0]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_a_slice_of_a_column_hashes_as_its_values_do_whatever_its_type(kind: pa.DataType) -> None:
    values = [b"alpha", None, b"", "bêta".encode(), b"gamma", b"delta"]
    whole = pa.array(values, pa.binary()).cast(kind)
    alone = [int(HASHER.entities(pa.array([value], pa.binary()))[0]) for value in values]
    assert HASHER.entities(whole).tolist() == alone
    assert HASHER.entities(whole[2:5]).tolist() == alone[2:5]
    assert HASHER.entities(whole[1:][1:3]).tolist() == alone[2:4]
    assert HASHER.entities(whole[6:]).tolist() == []


@pytest.mark.parametrize("none", [pa.array([], pa.string()), pa.array([], pa.large_binary())])
def test_no_identifiers_have_no_hashes(none: pa.Array) -> None:
    assert HASHER.entities(none).tolist() == HASHER.checks(none).tolist() == []
    assert HASHER.entities(none).dtype == np.uint64


def test_the_two_hashes_of_a_transaction_id_and_those_under_another_key_have_nothing_in_common() -> None:
    ids = pa.array([f"t{number}" for number in range(500)])
    other = Hasher((KEY[0], KEY[1] + 1))
    columns = [HASHER.entities(ids), HASHER.checks(ids), other.entities(ids), other.checks(ids)]
    assert len(np.unique(np.concatenate(columns))) == 4 * 500
    agreeing_bits = np.unpackbits((~(columns[0] ^ columns[1])).view(np.uint8)).mean()
    assert 0.45 < agreeing_bits < 0.55


def test_the_decoder_and_a_restore_know_a_transaction_by_the_same_hashes() -> None:
    settings = Settings(entity_key=bytes(range(16)).hex())
    assert settings.hash_key == KEY
    assert Decoder(settings)._check_key == HASHER.check_key


def test_ids_that_go_out_are_keyed_macs_of_what_they_name_and_of_nothing_else() -> None:
    assert HASHER.alert_id("c-1", "t-1") == mac(b"alert:3:c-1:t-1")[:32]
    assert HASHER.alert_id("ü", "ü") == mac("alert:1:ü:ü".encode())[:32]
    assert HASHER.alert_id("a:b", "c") != HASHER.alert_id("a", "b:c")
    assert HASHER.case_id("card-9", 19_700) == mac(b"case:19700:card-9")[:32]
    assert HASHER.alert_id("c-1", "t-1") != Hasher((1, 2)).alert_id("c-1", "t-1")


def test_cases_of_other_cards_or_windows_are_other_cases() -> None:
    ids = {HASHER.case_id(card, window) for card in ("1", "11", "1:1") for window in (1, 11, 111)}
    assert len(ids) == 9


def test_the_fingerprint_tells_keys_apart_and_does_not_tell_the_key() -> None:
    fingerprints = {Hasher(key).fingerprint for key in (KEY, (0, 0), (1, 0), (0, 1), KEY[::-1])}
    assert len(fingerprints) == 5
    assert HASHER.fingerprint == mac(b"fingerprint")[:16]
    assert HASHER.fingerprint not in bytes(range(16)).hex()
