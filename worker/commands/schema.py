"""`schema export`: schemas of the records, for the programs that write and read them."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from worker.commands.parsing import Verbs, add_group, add_verb
from worker.commands.terminal import read_settings

_MORE: Final = """\
Writes transaction, label, alert and dead-letter.schema.json (JSON Schema
2020-12) and asyncapi.json (AsyncAPI 3) under the field names of [transaction]
and [label] and the topics of [topics]; without settings, under the default names.
It needs no entity_key and no Kafka."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    group = add_group(verbs, "schema", "describe the records on the topics")
    parser = add_verb(group, "export", "write the JSON Schemas of all messages", export, _MORE)
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path("schemas"),
        metavar="FOLDER",
        help="where to write them (default: schemas)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; end with code 1 if the files differ from what would be written",
    )


def export(args: argparse.Namespace) -> int:
    """Write the schemas, or compare them with the files."""
    from worker.wire import json_schemas
    from worker.wire.asyncapi import asyncapi

    settings = read_settings(args, keyless=True)
    schemas = json_schemas.schemas(settings)
    documents = {f"{name}.schema.json": schema for name, schema in schemas.items()}
    documents["asyncapi.json"] = asyncapi(settings, schemas)
    if args.check:
        json_schemas.check(documents, args.dir)
        print(f"The {len(documents)} files in {args.dir} are up to date.")
        return 0
    for path in json_schemas.export(documents, args.dir):
        print(path)
    return 0
