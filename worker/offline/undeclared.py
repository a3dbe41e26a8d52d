"""Columns of a file that no setting names: the worker learns nothing from them, which their owner may not expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from worker.redaction import printable, redact
from worker.settings.fields import TransactionFields
from worker.settings.report import as_toml

TRUTH: Final = ("is_fraud", "fraud_kind", "label_time", "label_source")
"""The columns in which `simulate` writes the truth, beside the user's fields."""
_INDEX: Final = "__index_level_"
_NAMED: Final = 4


def undeclared(others: pa.Schema, fields: TransactionFields) -> Iterator[str]:
    """Yield that there are such columns, with the lines of settings by which the worker would learn from them.

    Parameters
    ----------
    others
        What nobody asked for, of the types that the file has, or seems to have.
    fields
        What is declared.
    """
    names = others.names
    # A nameless one, and one that pandas adds, number the rows.
    left = [
        it
        for it in others
        if it.name and it.name not in TRUTH and not it.name.startswith(_INDEX) and names.count(it.name) == 1
    ]
    if not left:
        return
    numeric = [redact(it.name) for it in left if _is_number(it.type)]
    texts = [redact(it.name) for it in left if _is_text(it.type)]
    lines = [
        f"{setting} = {as_toml([*declared, *found])}"
        for setting, declared, found in (
            ("numeric", fields.numeric, numeric),
            ("categorical", fields.categorical, texts),
        )
        if found
    ]
    named = ", ".join(printable(redact(it.name)) for it in left[:_NAMED]) + (
        ", ..." if len(left) > _NAMED else ""
    )
    said = f"nothing is learnt from columns that no setting names, {len(left):,} in all ({named})"
    if not lines:
        yield said
        return
    yield (
        f"{said}: to learn from them write below [transaction] {' and '.join(lines)}, but nothing that is filled in "
        "after the decision, and no number that is a name, such as the code of a region, which is categorical"
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))
