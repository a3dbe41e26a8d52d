"""Settings alone reach a Kafka with TLS, certificates and a password; each refusal names the setting to check."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.site import ENTITY_KEY, Site
from tests.support.traffic import records_of, small_traffic
from worker.broker.embedded import HOST, EmbeddedKafka, free_port
from worker.errors import SettingsError, UnreachableError
from worker.kafka_io.client import wait_for_brokers
from worker.settings.sections import Settings

pytestmark = pytest.mark.integration

USER, PASSWORD = "fraud", "between-us"
PATIENCE_S = 30.0
"""Longer than any refusal takes: every refusal but silence is reported at once."""


@dataclass(frozen=True)
class Guarded:
    """A broker's two further listeners, and what a client needs for them."""

    plain: str
    password: str
    certificate: str
    files: Path

    def with_password(self, **changes: Any) -> dict[str, Any]:
        """`[kafka]` for TLS and a password."""
        return {
            "bootstrap": self.password,
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_username": USER,
            "sasl_password": PASSWORD,
            "ssl_ca_file": str(self.files / "ca.pem"),
        } | changes

    def with_certificate(self, **changes: Any) -> dict[str, Any]:
        """`[kafka]` for mutual TLS."""
        return {
            "bootstrap": self.certificate,
            "security_protocol": "SSL",
            "ssl_ca_file": str(self.files / "ca.pem"),
            "ssl_cert_file": str(self.files / "client.pem"),
            "ssl_key_file": str(self.files / "client.key"),
        } | changes


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    files = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(files / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(files / "other-ca.pem"))
    (files / "broker.pem").write_bytes(_for_java(authority.issue_cert(HOST)))
    client = authority.issue_cert("fraud-worker@example.org")
    client.private_key_pem.write_to_path(str(files / "client.key"))
    client.cert_chain_pems[0].write_to_path(str(files / "client.pem"))
    password, certificate = (f"{HOST}:{free_port()}" for _ in range(2))
    with EmbeddedKafka(
        properties=_properties(files), listeners=(f"PASSWORD://{password}", f"CERTIFICATE://{certificate}")
    ) as broker:
        yield Guarded(broker.bootstrap, password, certificate, files)


def _for_java(issued: trustme.LeafCert) -> bytes:
    """Key and certificate in one file; Java reads keys as PKCS 8 alone."""
    key = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    return b"".join(
        (
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            *(part.bytes() for part in issued.cert_chain_pems),
        )
    )


def _properties(files: Path) -> Mapping[str, str]:
    jaas = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
    )
    return {
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PASSWORD:SASL_SSL,CERTIFICATE:SSL"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(files / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(files / "ca.pem"),
        "listener.name.certificate.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.password.plain.sasl.jaas.config": jaas,
    }


@pytest.mark.parametrize("way", ["with_password", "with_certificate"])
def test_a_worker_decides_over_an_encrypted_and_authenticated_connection(
    way: str, guarded: Guarded, tmp_path: Path
) -> None:
    site = Site(guarded.plain, tmp_path)
    site.feed(records_of(small_traffic(days=2, cards=100)))
    with site.worker(kafka=getattr(guarded, way)()) as worker:
        worker.wait_until_ready()
        site.wait_until_decided(worker)
        site.wait_until_quiet(worker)
        assert PASSWORD not in worker.log
    site.assert_everything_once()


def refused(kafka: Mapping[str, Any], patience_s: float = PATIENCE_S) -> str:
    """Return the error of a Kafka that does not let us in."""
    settings = Settings.model_validate({"entity_key": ENTITY_KEY, "kafka": kafka})
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # kafka-python leaves sockets of failed handshakes open
        with pytest.raises((UnreachableError, SettingsError)) as raised:
            wait_for_brokers(settings, patience_s)
        gc.collect()
    assert PASSWORD not in str(raised.value)
    return str(raised.value)


def test_a_wrong_password_is_reported_with_the_settings_to_check(guarded: Guarded) -> None:
    message = refused(guarded.with_password(sasl_password="wrong"))
    assert "refuses the credentials" in message
    assert "kafka.sasl_username = 'fraud' and kafka.sasl_password" in message


def test_a_broker_whose_certificate_another_authority_signed_is_not_trusted(guarded: Guarded) -> None:
    message = refused(guarded.with_password(ssl_ca_file=str(guarded.files / "other-ca.pem")))
    assert "certificate" in message.lower()
    assert "kafka.ssl_ca_file" in message


def test_a_missing_client_certificate_is_reported(guarded: Guarded) -> None:
    message = refused(guarded.with_certificate(ssl_cert_file=None, ssl_key_file=None))
    assert "kafka.ssl_cert_file" in message


def test_a_file_without_a_certificate_is_reported_before_anything_is_sent(
    guarded: Guarded, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").write_text("no certificate\n", encoding="utf-8")
    message = refused(guarded.with_password(ssl_ca_file=str(tmp_path / "empty.pem")))
    assert "kafka.ssl_ca_file" in message


@pytest.mark.parametrize(("protocol", "at"), [("PLAINTEXT", "password"), ("SSL", "plain")])
def test_another_protocol_than_the_listener_s_is_reported(protocol: str, at: str, guarded: Guarded) -> None:
    message = refused({"bootstrap": getattr(guarded, at), "security_protocol": protocol}, patience_s=2.0)
    assert f"kafka.security_protocol = '{protocol}'" in message
