"""The rows of generated streams before their frauds are drawn: each shape is a function of a count and a generator.

The frauds of each follow its logit; `shapes` sets its constant for the share of fraud.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(slots=True)
class Shape:
    """n rows before the frauds are drawn.

    Attributes
    ----------
    amount, logit : float64 (n,)
    numeric, categorical, entities
        By field name; categories and entities as codes.
    card : int64 (n,)
    place
        The numeric fields that are latitude and longitude.
    """

    amount: Numbers
    logit: Numbers
    numeric: dict[str, Numbers]
    categorical: dict[str, Codes]
    entities: dict[str, Codes]
    card: Codes
    place: tuple[str, ...] = ()


DAYS: Final = 90
"""How long a stream lasts whose shape knows of time."""
CLEAR_SHARE: Final = 0.002
"""Of `clear`, whose frauds lie where they do by their number."""
EMPTIED_SHARE: Final = 0.002
"""Of `balances`, likewise."""


def chance(logit: Numbers) -> Numbers:
    """Return the probability of a logit."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -60.0, 60.0))), np.float64)


def _zipf(values: int, count: int, rng: np.random.Generator) -> Codes:
    weight = 1.0 / np.arange(1, values + 1)
    return np.asarray(np.searchsorted(np.cumsum(weight / weight.sum()), rng.random(count)), np.int64)


def _with_gaps(values: Numbers, share: float, rng: np.random.Generator) -> Numbers:
    return np.where(rng.random(values.size) < share, np.nan, values)


def _amounts(normal: Numbers) -> Numbers:
    return np.asarray(np.round(np.exp(3.5 + normal), 2), np.float64)


def _drift(count: int) -> Numbers:
    """Rise from 0 in the first rows to 1 in the last."""
    return np.linspace(0.0, 1.0, count)


def wide(count: int, rng: np.random.Generator) -> Shape:
    """50 numeric fields, some heavy-tailed, with missing values; frauds where three fields meet."""
    x = rng.standard_normal((count, 50))
    logit = 0.5 * x[:, 0] - 0.4 * x[:, 1]
    for _ in range(8):
        fields = rng.choice(20, 3, replace=False)
        sides = rng.choice([-1.0, 1.0], 3)
        logit += 3.5 * np.all(x[:, fields] * sides > 0.3, axis=1)
    missing = rng.uniform(0.0, 0.4, 50)
    numeric = {}
    for at in range(50):
        values = np.exp(x[:, at]) if at % 3 == 0 else x[:, at]
        numeric[f"n{at:02d}"] = _with_gaps(values, missing[at], rng)
    # That a field is missing says something too.
    logit += 1.5 * np.isnan(numeric["n05"])
    amount = _amounts(rng.standard_normal(count))
    return Shape(amount, logit, numeric, {}, {}, rng.integers(0, max(count // 180, 1), count))


def no_entity(count: int, rng: np.random.Generator) -> Shape:
    """No entity at all, and each transaction with a card of its own: the fields alone say what there is."""
    x = rng.standard_normal((count, 8))
    kinds = [rng.integers(0, size, count) for size in (3, 8, 24)]
    amount = _amounts(x[:, 0])
    logit = 1.2 * np.maximum(x[:, 0], 0.0) + 0.8 * x[:, 1] * x[:, 2] - 0.6 * np.abs(x[:, 3])
    logit += sum(rng.normal(0.0, 0.8, size)[kind] for size, kind in zip((3, 8, 24), kinds, strict=True))
    logit += 1.5 * (x[:, 4] > 1.0) * (kinds[0] == 0)
    numeric = {f"n{at}": x[:, at] for at in range(1, 8)}
    return Shape(amount, logit, numeric, {f"c{at}": it for at, it in enumerate(kinds)}, {}, np.arange(count))


def clear(count: int, rng: np.random.Generator) -> Shape:
    """28 numbers of heavy tails and no entity; most of the few frauds lie far out in some of these, others nowhere."""
    x = rng.standard_t(4.0, (count, 28)) * np.linspace(2.0, 0.3, 28)
    fraud = rng.random(count) < CLEAR_SHARE
    kind = rng.choice(4, count, p=[0.4, 0.25, 0.15, 0.2])
    for at, fields, distance in ((0, 8, 6.0), (1, 6, 4.0), (2, 4, 3.0)):
        its = np.flatnonzero(fraud & (kind == at))
        columns = rng.choice(28, fields, replace=False)
        shift = rng.choice([-1.0, 1.0], fields) * distance * np.linspace(2.0, 0.3, 28)[columns]
        x[np.ix_(its, columns)] += shift * rng.gamma(2.0, 0.5, (its.size, 1))
    amount = _amounts(rng.standard_normal(count) - 0.5 * fraud)
    numeric = {f"v{at + 1}": x[:, at] for at in range(28)}
    return Shape(amount, np.where(fraud, 60.0, -60.0), numeric, {}, {}, np.arange(count))


def balances(count: int, rng: np.random.Generator) -> Shape:
    """Balances before and after, of payer and payee: most frauds empty the account, where three fields meet."""
    fraud = rng.random(count) < EMPTIED_SHARE
    kind = np.where(fraud, rng.integers(0, 2, count), rng.choice(5, count, p=[0.3, 0.1, 0.3, 0.25, 0.05]))
    amount = _amounts(rng.standard_normal(count) + np.array([0.5, 1.0, -0.5, 0.5, -1.0])[kind])
    before = np.round(np.exp(rng.normal(4.0 + fraud, 1.8)) * (fraud | (rng.random(count) < 0.7)), 2)
    is_all = rng.random(count) < 0.85
    amount = np.where(fraud, np.round(before * np.where(is_all, 1.0, rng.random(count)), 2), amount)
    of_payee = np.round(np.exp(rng.normal(6.0, 1.5, count)) * (rng.random(count) < 0.6), 2)
    numeric = {
        "before": before,
        "after": np.maximum(before - amount, 0.0),
        "payee_before": of_payee,
        "payee_after": of_payee + amount * (~fraud | (rng.random(count) < 0.7)),
    }
    payee = _zipf(max(count // 20, 1), count, rng)
    return Shape(
        amount, np.where(fraud, 60.0, -60.0), numeric, {"kind": kind}, {"payee": payee}, np.arange(count)
    )


def categories(count: int, rng: np.random.Generator) -> Shape:
    """30 categoricals of 50 to 5,000 values, half of which say something."""
    logit = np.zeros(count)
    categorical = {}
    for at in range(30):
        values = int(50 * 100 ** (at / 29))
        codes = _zipf(values, count, rng)
        categorical[f"c{at:02d}"] = codes
        if at % 2 == 0:
            logit += rng.normal(0.0, 0.6, values)[codes]
    logit += 2.0 * ((categorical["c00"] % 5 == 0) & (categorical["c02"] % 4 == 0))
    amount = _amounts(rng.standard_normal(count))
    return Shape(amount, logit, {}, categorical, {}, rng.integers(0, max(count // 180, 1), count))


def noise(count: int, rng: np.random.Generator) -> Shape:
    """Fields that say nothing."""
    numeric = {f"n{at:02d}": rng.standard_normal(count) for at in range(20)}
    categorical = {f"c{at}": _zipf(40, count, rng) for at in range(5)}
    amount = _amounts(rng.standard_normal(count))
    return Shape(
        amount, np.zeros(count), numeric, categorical, {}, rng.integers(0, max(count // 180, 1), count)
    )


def mixed(count: int, rng: np.random.Generator) -> Shape:
    """Numbers, categories, cards and merchants, whose meaning drifts."""
    cards, merchants = max(count // 180, 1), max(count // 400, 1)
    card, merchant = rng.integers(0, cards, count), _zipf(merchants, count, rng)
    x = rng.standard_normal((count, 12))
    kinds = [_zipf(size, count, rng) for size in (6, 30)]
    usual = np.exp(rng.normal(3.5, 0.7, cards))
    amount = np.round(usual[card] * np.exp(0.5 * x[:, 0]), 2)
    before, after = rng.normal(0.0, 0.5, (2, 6))
    late = _drift(count)
    logit = 1.5 * np.maximum(x[:, 0], 0.0) + rng.normal(0.0, 1.0, merchants)[merchant]
    logit += np.sum(x[:, 1:7] * ((1.0 - late)[:, None] * before + late[:, None] * after), axis=1)
    logit += 2.0 * ((x[:, 7] > 0.8) & (x[:, 8] < 0.0))
    logit += sum(rng.normal(0.0, 0.7, size)[kind] for size, kind in zip((6, 30), kinds, strict=True))
    numeric = {f"n{at:02d}": _with_gaps(x[:, at], 0.05, rng) for at in range(1, 12)}
    categorical = {f"c{at}": it for at, it in enumerate(kinds)}
    return Shape(amount, logit, numeric, categorical, {"merchant_id": merchant}, card)


def deep(count: int, rng: np.random.Generator) -> Shape:
    """30 numeric fields with missing values; frauds lie in many small regions of several fields each."""
    x = rng.standard_normal((count, 10)) @ (rng.standard_normal((10, 30)) * (rng.random((10, 30)) < 0.3))
    x += 0.7 * rng.standard_normal((count, 30))
    logit = np.sum([_regions(x, 6, rng) for _ in range(60)], axis=0)
    numeric = {f"n{at:02d}": _with_gaps(x[:, at], 0.2 * (at % 2), rng) for at in range(30)}
    amount = _amounts(rng.standard_normal(count))
    card = rng.integers(0, max(count // 180, 1), count)
    return Shape(amount, 4.0 * logit / logit.std(), numeric, {}, {}, card)


def faint(count: int, rng: np.random.Generator) -> Shape:
    """Fields that say little of who is a fraud, as of loans; amounts so large that to alert on everything is cheap."""
    x = rng.standard_normal((count, 14))
    kinds = [rng.integers(0, size, count) for size in (3, 7, 12, 50)]
    logit = x[:, :10] @ rng.normal(0.0, 0.25, 10)
    logit += sum(rng.normal(0.0, 0.25, 50)[kind] for kind in kinds)
    numeric = {f"n{at:02d}": x[:, at] for at in range(14)}
    categorical = {f"c{at}": it for at, it in enumerate(kinds)}
    return Shape(
        _amounts(rng.standard_normal(count) + 5.5), logit, numeric, categorical, {}, np.arange(count)
    )


def rings(count: int, rng: np.random.Generator) -> Shape:
    """An online shop: fields missing in blocks, categories of up to 3,000 values, frauds in rings of a few days."""
    kinds = {f"c{at:02d}": _zipf(int(5 * 600 ** (at / 11)), count, rng) for at in range(12)}
    x = rng.standard_normal((count, 8)) @ rng.standard_normal((8, 20)) + rng.standard_normal((count, 20))
    logit = 3.0 * _standard(np.sum([_regions(x, 5, rng) for _ in range(30)], axis=0))
    for codes in list(kinds.values())[::2]:
        logit += rng.normal(0.0, 0.8, codes.max() + 1)[codes]
    missing = [rng.random(kinds["c00"].max() + 1)[kinds["c00"]] < 0.4 for _ in range(4)]
    numeric = {}
    for at in range(20):
        values = np.exp(0.5 * x[:, at]) if at % 3 == 0 else x[:, at]
        gone = missing[at % 5] if at % 5 < len(missing) else rng.random(count) < 0.05
        numeric[f"n{at:02d}"] = np.where(gone, np.nan, values)
    card, device, address = (_zipf(max(count // rows, 1), count, rng) for rows in (20, 8, 100))
    shared = {"c08": kinds["c08"], "c10": kinds["c10"], "device": device, "address": address}
    for _ in range(count // 1_500):
        begins = int(rng.integers(count))
        lasts = int(rng.integers(count // (2 * DAYS) + 1, 3 * count // DAYS + 2))
        ring = np.unique(rng.integers(begins, min(begins + lasts, count), int(rng.integers(5, 40))))
        for codes in shared.values():
            codes[ring] = codes[rng.integers(count)]
        logit[ring] += 7.0
    stolen_at = np.where(rng.random(card.max() + 1) < 0.02, rng.integers(0, count, card.max() + 1), count)
    logit += 6.0 * (np.arange(count) > stolen_at[card])
    entities = {"device": device, "address": address}
    return Shape(_amounts(rng.standard_normal(count)), logit, numeric, kinds, entities, card)


def accounts(count: int, rng: np.random.Generator) -> Shape:
    """Card numbers that many accounts share; accounts come and go, and once one is taken over all it does is fraud."""
    day, size = DAYS * _drift(count), count // 10
    opened, account = _opened(size, -120.0, day, size / 12, rng)
    of_account = {
        "product": 5,
        "email": 60,
        "receiver": 90,
        "network": 4,
        "kind": 2,
        "region": 300,
        "device": 2_500,
    }
    kinds = {name: _zipf(values, size, rng) for name, values in of_account.items()}
    numbers = rng.standard_normal((size, 6)) @ rng.standard_normal((6, 14))
    x = numbers[account] + rng.standard_normal((count, 14))
    risk = sum(rng.normal(0.0, 0.7, values)[kinds[name]] for name, values in of_account.items())
    risk += 1.5 * ((kinds["product"] == 1) & (kinds["email"] % 7 == 2)) + 0.8 * _regions(numbers, 6, rng)
    taken = rng.random(size) < chance(risk - 4.5)
    taken_at = np.where(taken, opened + rng.exponential(6.0, size), np.inf)
    logit = 0.8 * risk[account] + 1.5 * _standard(np.sum([_regions(x, 5, rng) for _ in range(20)], axis=0))
    bad = day > taken_at[account]
    logit += 8.0 * bad
    product = kinds["product"][account]
    numeric = {"age": np.where(product > 2, np.nan, np.floor(day - opened[account]))}
    for at in range(6):
        steady = rng.gamma(1.0, 2.0, size)[account]
        raised = 1.0 + 2.0 * (bad & (rng.random(count) < 0.5))
        numeric[f"count{at}"] = rng.poisson(steady * raised).astype(np.float64)
    for at in range(14):
        numeric[f"n{at:02d}"] = np.where((product + at) % 5 == 0, np.nan, np.round(x[:, at], 1 + at % 2))
    flags = {f"flag{at}": _flag(x[:, at], product, at) for at in range(6)}
    categorical = {
        name: codes[account] for name, codes in kinds.items() if name not in {"region", "device"}
    } | flags
    card = _zipf(max(count // 60, 1), size, rng)[account]
    priced = np.exp(rng.normal(3.0, 0.8, 40)).round()[rng.integers(0, 40, count)]
    amount = np.where(product == 1, priced, _amounts(x[:, 0] / 3.0))
    entities = {name: kinds[name][account] for name in ("region", "device")}
    return Shape(amount, logit, numeric, categorical, entities, card)


def takeovers(count: int, rng: np.random.Generator) -> Shape:
    """Accounts that come and go, taken over in many small groups that share some fields: then nearly all is fraud."""
    day, size = DAYS * _drift(count), count // 8
    opened, account = _opened(size, -100.0, day, size / 8, rng)
    kinds = {
        "product": 5,
        "email": 60,
        "network": 4,
        "browser": 80,
        "screen": 200,
        "region": 300,
        "device": 2_500,
    }
    fields = {name: _zipf(values, size, rng) for name, values in kinds.items()}
    numbers = rng.standard_normal((size, 8)) @ rng.standard_normal((8, 16))
    taken_at = np.full(size, np.inf)
    for _ in range(400):
        one, near = rng.integers(size), numbers[:, rng.integers(16)]
        begins, days = rng.uniform(-30.0, DAYS), rng.uniform(20.0, 80.0)
        alike = (opened > begins) & (opened < begins + days) & (np.abs(near - near[one]) < 0.7 * near.std())
        for name in rng.choice(sorted(fields), 3, replace=False):
            alike &= fields[name] == fields[name][one]
        if alike.mean() < 0.004:  # a small group
            group = np.flatnonzero(alike & (rng.random(size) < 0.85))
            taken_at[group] = np.minimum(taken_at[group], opened[group] + rng.exponential(1.0, group.size))
    x = numbers[account] + 0.7 * rng.standard_normal((count, 16))
    logit = 1.2 * _standard(np.sum([_regions(x, 6, rng) for _ in range(40)], axis=0))
    logit += 9.0 * (day > taken_at[account])
    numeric = {f"n{at:02d}": np.round(x[:, at], 1 + at % 2) for at in range(16)}
    numeric["age"] = np.floor(day - opened[account])
    entities = {name: fields.pop(name)[account] for name in ("region", "device")}
    categorical = {name: codes[account] for name, codes in fields.items()}
    card = _zipf(max(count // 45, 1), size, rng)[account]
    return Shape(_amounts(x[:, 0] / 3.0), logit, numeric, categorical, entities, card)


def _opened(
    size: int, first_day: float, day: Numbers, younger: float, rng: np.random.Generator
) -> tuple[Numbers, Codes]:
    """Return the days on which accounts open, from the first day on, and which of them pays on each day.

    An account is the likelier to pay the younger it is: in the mean so many are younger than the one that pays.
    """
    opened = np.sort(rng.uniform(first_day, DAYS, size))
    newest = np.searchsorted(opened, day)
    return opened, np.maximum(newest - 1 - rng.exponential(younger, len(day)).astype(np.int64), 0)


def _flag(x: Numbers, product: Codes, at: int) -> Codes:
    """Return 0 or 1, or 2 for the products that do not ask."""
    return np.where((product + at) % 4 == 0, 2, (x > 0.8).astype(np.int64))


def travel(count: int, rng: np.random.Generator) -> Shape:
    """Cards at home, on trips and, by proxy, anywhere; frauds mostly where no card could have come so fast."""
    cards = max(count // 120, 1)
    card, day = rng.integers(0, cards, count), DAYS * _drift(count)
    trip = card * DAYS + (day // 4).astype(np.int64)
    home, abroad, proxy = (
        np.column_stack([rng.uniform(-40.0, 60.0, size), rng.uniform(-180.0, 180.0, size)])
        for size in (cards, cards * DAYS, count)
    )
    away, elsewhere = (rng.random(cards * DAYS) < 0.08)[trip], rng.random(count) < 0.05
    place = np.where(away[:, None], abroad[trip], home[card]) + 0.1 * rng.standard_normal((count, 2))
    place[elsewhere] = proxy[elsewhere]
    x = rng.standard_normal((count, 4))
    logit = (
        0.8 * np.maximum(x[:, 0], 0.0)
        + 0.5 * x[:, 1]
        + 5.0 * (elsewhere & (_speeds_kmh(card, day, place) > 900.0))
    )
    numeric = {"lat": place[:, 0], "lon": place[:, 1], **{f"n{at}": x[:, at] for at in range(1, 4)}}
    numeric |= {name: np.where(rng.random(count) < 0.1, np.nan, numeric[name]) for name in ("lat", "lon")}
    return Shape(_amounts(x[:, 0]), logit, numeric, {}, {}, card, ("lat", "lon"))


def _speeds_kmh(card: Codes, day: Numbers, place: Numbers) -> Numbers:
    """Return the speed from the row of the same card before; 0 for the first one."""
    order = np.lexsort([day, card])
    latitude, longitude = np.radians(place[order]).T
    cosine = np.sin(latitude[1:]) * np.sin(latitude[:-1])
    cosine += np.cos(latitude[1:]) * np.cos(latitude[:-1]) * np.cos(np.diff(longitude))
    distance_km = 6371.0 * np.arccos(np.clip(cosine, -1.0, 1.0))
    same = np.diff(card[order]) == 0
    speed = np.zeros(card.size)
    speed[order[1:][same]] = (distance_km / (24.0 * np.maximum(np.diff(day[order]), 1e-6)))[same]
    return speed


def _standard(values: Numbers) -> Numbers:
    return np.asarray((values - values.mean()) / values.std(), np.float64)


def _regions(x: Numbers, depth: int, rng: np.random.Generator) -> Numbers:
    """Cut the rows in two by a random field, `depth` times over, and give each part a normal value."""
    part = np.zeros(len(x), np.int64)
    for _ in range(depth):
        field, cut = rng.integers(x.shape[1], size=2**depth), rng.uniform(0.15, 0.85, 2**depth)
        bound = np.quantile(x[:1_000], cut, axis=0)[np.arange(2**depth), field]
        part = 2 * part + (x[np.arange(len(x)), field[part]] > bound[part])
    return np.asarray(rng.standard_normal(2**depth)[part], np.float64)
