"""Fields joined to entities of their own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from models.hashing import MISSING
from models.vocabulary import MS_PER_DAY
from tests.support.records import json_columns
from worker.identity import Hasher
from worker.offline.dataset import Dataset
from worker.offline.dataset_columns import transaction_columns
from worker.parameters import feature_spec
from worker.settings.fields import TransactionFields
from worker.settings.loading import load_settings
from worker.settings.report import rows
from worker.settings.sections import Settings
from worker.wire.combined import with_combined
from worker.wire.decoder import Decoder

FIELDS = TransactionFields(
    categorical=("country",),
    entities=("merchant_id",),
    combined=("card_id+country", "merchant_id+country+card_id"),
)
SETTINGS = Settings(entity_key="00" * 16, transaction=FIELDS)
CARDS, MERCHANTS = ["c1", "c1", "c2", "c1", "c1"], ["m", "n", "m", "m", None]
COUNTRIES = ["de", "de", "de", None, "fr"]


def hashes() -> np.ndarray:
    hasher = Hasher(SETTINGS.hash_key)
    card, merchant, country = (
        hasher.entities(pa.array(it, pa.string())) for it in (CARDS, MERCHANTS, COUNTRIES)
    )
    return with_combined(
        FIELDS, card, merchant[:, None], country[:, None], np.empty((5, 0)), np.zeros(5, np.int64)
    )


def test_equal_parts_make_equal_entities_and_no_others_do() -> None:
    by_country, all_three = hashes()[:, 1], hashes()[:, 2]
    assert by_country[0] == by_country[1]
    assert len({*by_country[[0, 2, 4]].tolist()}) == 3
    assert len({*all_three[:3].tolist()}) == 3
    assert not set(by_country.tolist()) & set(all_three[:3].tolist())


def test_a_combination_is_missing_where_a_part_is() -> None:
    assert (hashes()[:, 1] == MISSING).tolist() == [False, False, False, True, False]
    assert (hashes()[:, 2] == MISSING).tolist() == [False, False, False, True, True]


def test_many_values_collide_no_more_than_their_number_makes_likely() -> None:
    count = 1 << 16
    fields = TransactionFields(categorical=("country",), entities=(), combined=("card_id+country",))
    # Neighbouring numbers, the worst that a hash could give: the mixing alone has to part them.
    card, country = (
        np.repeat(np.arange(1, 257, dtype=np.uint64), 256),
        np.tile(np.arange(1, 257, dtype=np.uint64), 256),
    )
    nothing, numbers = np.empty((count, 0), np.uint64), np.empty((count, 0))
    found = with_combined(fields, card, nothing, country[:, None], numbers, np.zeros(count, np.int64))[:, 0]
    assert len(np.unique(found)) == count
    bits = (found[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.all(np.abs(bits.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(count))


def test_an_account_keeps_its_entity_while_it_ages_and_shares_its_card_with_others() -> None:
    fields = TransactionFields(numeric=("age",), ages=("age",), entities=(), combined=("card_id+age",))
    card, nothing = np.array([7, 7, 7, 8, 7, 7], np.uint64), np.empty((6, 0), np.uint64)
    day = np.array([100, 103, 103, 103, 103, 103])
    age = np.array([[10.0], [13.0], [12.0], [13.0], [np.nan], [1e300]])
    found = with_combined(fields, card, nothing, nothing, age, day * MS_PER_DAY + 3_600_000)[:, 0]
    assert found[0] == found[1]
    assert len({*found[[0, 2, 3]].tolist()}) == 3
    assert (found == MISSING).tolist() == [False, False, False, False, True, True]


def test_the_decoder_and_a_data_set_combine_alike() -> None:
    rows = range(5)
    messages = [
        {"transaction_id": f"t{i}", "card_id": CARDS[i], "event_time": 1_700_000_000_000 + i, "amount": 3.0}
        | {name: value for name, value in (("merchant_id", MERCHANTS[i]), ("country", COUNTRIES[i])) if value}
        for i in rows
    ]
    columns, bad = Decoder(SETTINGS).transactions(json_columns(messages))
    assert not bad
    assert columns.entity_hash.tolist() == hashes().tolist()
    dataset = Dataset(
        fields=FIELDS, transaction_id=pa.array([f"t{i}" for i in rows]), card_id=pa.array(CARDS),
        event_time_ms=1_700_000_000_000 + np.arange(5), amount=np.full(5, 3.0), currency=None,
        entities={"merchant_id": pa.array(MERCHANTS)}, numeric={}, categorical={"country": pa.array(COUNTRIES)},
        is_fraud=None, label_time_ms=None,
    )  # fmt: skip
    assert transaction_columns(dataset, Hasher(SETTINGS.hash_key)).entity_hash.tolist() == hashes().tolist()


def test_a_combination_has_the_features_of_an_entity() -> None:
    assert feature_spec(SETTINGS).entities == (
        "merchant_id",
        "card_id+country",
        "merchant_id+country+card_id",
    )
    other = Settings(entity_key="00" * 16, transaction=FIELDS.model_copy(update={"combined": ()}))
    assert dataclasses.astuple(feature_spec(other)) != dataclasses.astuple(feature_spec(SETTINGS))


def test_an_age_is_a_number_that_the_entities_may_join() -> None:
    fields = TransactionFields.model_validate(
        {"numeric": ["age"], "ages": ["age"], "entities": ["merchant_id", "card_id+age"]}
    )
    assert (fields.entities, fields.combined) == (("merchant_id",), ("card_id+age",))
    spec = feature_spec(Settings(entity_key="00" * 16, transaction=fields))
    assert (spec.ages, spec.entities) == (("age",), ("merchant_id", "card_id+age"))
    with pytest.raises(ValidationError, match=r"transaction.ages: 'age' is not in transaction.numeric"):
        TransactionFields(ages=("age",))
    with pytest.raises(ValidationError, match="twice"):
        TransactionFields(numeric=("age",), ages=("age", "age"))
    with pytest.raises(ValidationError, match="card_id\\+age"):
        TransactionFields(numeric=("age",), combined=("card_id+age",))


def test_the_decoder_and_a_data_set_join_ages_alike() -> None:
    fields = TransactionFields(numeric=("age",), ages=("age",), entities=(), combined=("card_id+age",))
    settings, start_ms = Settings(entity_key="00" * 16, transaction=fields), 1_700_000_000_000
    age = [3.0, 4.0, 3.0, None, 7.5]
    messages = [
        {
            "transaction_id": f"t{i}",
            "card_id": CARDS[i],
            "event_time": start_ms + i * MS_PER_DAY,
            "amount": 3.0,
        }
        | ({} if age[i] is None else {"age": age[i]})
        for i in range(5)
    ]
    columns, bad = Decoder(settings).transactions(json_columns(messages))
    assert not bad
    dataset = Dataset(
        fields=fields, transaction_id=pa.array([f"t{i}" for i in range(5)]), card_id=pa.array(CARDS),
        event_time_ms=start_ms + np.arange(5) * MS_PER_DAY, amount=np.full(5, 3.0), currency=None,
        entities={}, numeric={"age": np.array(age, np.float64)}, categorical={}, is_fraud=None, label_time_ms=None,
    )  # fmt: skip
    of_file = transaction_columns(dataset, Hasher(settings.hash_key)).entity_hash
    assert columns.entity_hash.tolist() == of_file.tolist()
    assert columns.entity_hash[0] == columns.entity_hash[1]
    assert (columns.entity_hash[:, 0] == MISSING).tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("combined", "words"),
    [
        (("card_id+zip",), ("'card_id+zip'", "'zip'", "country")),
        (("card_id",), ("'card_id'", "two or more")),
        (("country+country",), ("two or more different",)),
        (("card_id+country", "country+card_id"), ("declared by combined, twice",)),
    ],
)
def test_what_cannot_be_combined_is_refused_with_the_names_that_can(
    combined: tuple[str, ...], words: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as refused:
        TransactionFields(categorical=("country",), combined=combined)
    assert [word for word in words if word not in str(refused.value)] == []


def test_fields_joined_among_the_entities_are_combined_unless_a_field_has_that_name() -> None:
    joined = TransactionFields.model_validate(
        {"categorical": ["country"], "entities": ["merchant_id", "card_id+country", "zip+four"]}
    )
    assert joined.entities == ("merchant_id", "zip+four")
    assert joined.combined == ("card_id+country",)
    both = TransactionFields(
        card_id="token",
        entities=("shop", "token+shop"),
        categorical=("country",),
        combined=("token+country",),
    )
    assert both.entities == ("shop",)
    assert both.combined == ("token+country", "token+shop")
    with pytest.raises(ValidationError, match=r"'shop\+token' .*twice"):
        TransactionFields(card_id="token", entities=("shop", "token+shop", "shop+token"))


def test_the_settings_shown_say_where_a_combination_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "worker.toml"
    file.write_text(
        f'entity_key = "{"00" * 16}"\n[transaction]\nentities = ["shop", "card_id+shop"]\n', encoding="utf-8"
    )
    shown = {it["name"]: it for it in rows(load_settings(file), file)}
    assert shown["transaction.combined"]["value"] == ["card_id+shop"]
    assert shown["transaction.combined"]["origin"] == "file"
    assert shown["transaction.place"]["origin"] == "default"
