"""A file of settings, such as the tests of commands read."""

from __future__ import annotations

from pathlib import Path

KEY = "00112233445566778899aabbccddeeff"


def settings_file(folder: Path) -> Path:
    """Write the file and return its path."""
    path = folder / "settings.toml"
    path.write_text(
        f"""
        entity_key = "{KEY}"
        [kafka]
        bootstrap = "kafka:9092"
        group = "from-file"
        sasl_password = "hush-hush"
        [transaction]
        transaction_id = "TX"
        entities = ["SHOP", "DEVICE"]
        """,
        encoding="utf-8",
    )
    return path
