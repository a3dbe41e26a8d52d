"""Settings: one TOML file, overridden by `FRAUD_WORKER__SECTION__NAME` in the environment; frozen once read.

Each section is one class; a field's description is the documentation of the setting.
"""

from __future__ import annotations

import re
import socket
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.settings.fields import (
    Days,
    LabelFields,
    Name,
    NotNegative,
    Positive,
    PositiveFloat,
    PositiveOrInfinite,
    Seconds,
    Section,
    StartFrom,
    TransactionFields,
)
from worker.settings.mistakes import ENV_PREFIX

RESENDING: Final = "dead-letters"
SKIPPING: Final = "skip"
"""What stands for `worker.id` in the transactional ids of these commands."""
NOT_WORKERS: Final = (RESENDING, SKIPPING)


def _host_name() -> str:
    """Return the name of this host, as far as it can stand in an id."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:200] or "worker"


class WorkerSettings(Section):
    """`[worker]`: who this process is and where it keeps its local files."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = Field(
        default_factory=_host_name,
        description="static member id, part of the transactional id; unique in the group, the same at every start; "
        "if it is not set, the name of the host",
    )
    state_dir: Path = Field(
        Path("state"),
        description="local folder of the decisions that wait for a label; a cache of the journal",
    )

    @field_validator("id")
    @classmethod
    def _names_a_worker_and_a_folder_of_its_own(cls, value: str) -> str:
        if value in NOT_WORKERS:
            raise ValueError(
                f"worker.id = {value!r} is what `fraud-worker {value}` calls itself, which would shut the worker out: "
                "choose another"
            )
        if not value.strip("."):
            raise ValueError(
                f"worker.id = {value!r} names no folder of its own below worker.state_dir, whose content a start "
                "deletes: choose another"
            )
        return value


class KafkaSettings(Section):
    """`[kafka]`: how to reach the brokers, and how to read and commit."""

    bootstrap: Name = Field("127.0.0.1:9092", description="host:port of one or more brokers, comma separated")
    group: Name = Field("fraud-worker", description="consumer group")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="protocol of the brokers' listener"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="required with SASL"
    )
    sasl_username: str | None = Field(None, description="required with SASL")
    sasl_password: SecretStr | None = Field(None, description="required with SASL")
    ssl_ca_file: Path | None = Field(None, description="certificate authority of the brokers")
    ssl_cert_file: Path | None = Field(None, description="client certificate, for mutual TLS")
    ssl_key_file: Path | None = Field(None, description="private key of the client certificate")
    start_from: StartFrom = Field(
        "committed",
        description="where a group without committed offsets begins; `committed` refuses to begin without",
    )
    partitioner: Literal["murmur2", "crc32"] = Field(
        "murmur2", description="how producers choose partitions: `murmur2` (Java) or `crc32` (librdkafka)"
    )
    misplaced: Literal["stop", "dead_letter"] = Field(
        "stop",
        description="what records in another partition than the partitioner's do: `stop` the worker if they are more "
        "than a third, or become dead letters one by one",
    )
    columnar: bool = Field(
        True,
        description="read whole record batches; false reads record by record: ten times slower, and not guarded "
        "against batches that inflate to fill the memory",
    )
    session_timeout_ms: Positive = Field(10_000, description="how long a dead worker keeps its partitions")
    max_poll_interval_s: Annotated[float, Field(ge=60, le=2_000_000)] = Field(
        43_200.0,
        description="how long a restore may take before the group throws the worker out and it begins again; a member "
        "that joins during a restore waits for its end, and with it the group",
    )
    transaction_timeout_ms: Positive = Field(
        10_000, description="how long an abandoned transaction stays open"
    )
    commit_deadline_s: Seconds = Field(30.0, description="a commit that takes longer ends the process")

    @field_validator("bootstrap")
    @classmethod
    def _is_addresses(cls, value: str) -> str:
        for address in value.split(","):
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
                raise ValueError(f"{address.strip()!r} is not host:port, such as kafka-1.example.com:9092")
        return value

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL"):
            for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
                if getattr(self, name) is None:
                    raise ValueError(
                        f"kafka.security_protocol is {self.security_protocol}: set kafka.{name} too"
                    )
        return self


class TopicSettings(Section):
    """`[topics]`: names of the six topics."""

    transactions: Name = Field("fraud.transactions.v1", description="read: the transactions to decide")
    labels: Name = Field(
        "fraud.labels.v1", description="read: the labels to learn from; as many partitions as transactions"
    )
    alerts: Name = Field("fraud.alerts.v1", description="written: the alerts")
    decisions: Name = Field("fraud.decisions.v1", description="written and read: the journal; kept for ever")
    model_log: Name = Field(
        "fraud.model-log.v1",
        description="written and read: what all workers learn; kept for ever",
    )
    dead_letters: Name = Field(
        "fraud.dead-letters.v1", description="written: the records that could not be used"
    )

    @model_validator(mode="after")
    def _names_differ(self) -> TopicSettings:
        names = list(self.model_dump().values())
        if len(set(names)) != len(names):
            raise ValueError(f"topics: some have the same name: {sorted(names)}; give each a name of its own")
        return self


class LabelSettings(Section):
    """`[labels]`: what silence means, and for how long."""

    silence: Literal["legit", "unknown"] = Field(
        "legit",
        description="what no label means: legit, where labels name frauds alone; or unknown, where labels name frauds "
        "and legits, but only of some transactions: the worker then neither learns nor counts silence",
    )
    negatives_after_days: Days = Field(
        7.0, description="a decision without a label is provisionally legit after this long"
    )
    horizon_days: Days = Field(
        60.0, description="a decision without a label is finally legit after this long"
    )
    keep_after_horizon_days: Days = Field(
        30.0, description="how long after the horizon a label still finds its decision"
    )
    max_silence_days: Days = Field(
        3.0, description="maturing halts while the label feed is silent for longer"
    )

    orphan_after_hours: Annotated[float, Field(ge=0, le=24 * 36_500)] = Field(
        1.0,
        description="event time that a label without a decision waits for its transaction; then it is a dead letter",
    )
    times_usual: PositiveOrInfinite = Field(
        10.0,
        description="so many times its usual number of frauds, or legits, a source of labels may teach in a day; the "
        "rest waits for the next day. inf for no bound",
    )

    @model_validator(mode="after")
    def _horizons_are_ordered(self) -> LabelSettings:
        if self.horizon_days < self.negatives_after_days:
            raise ValueError(
                f"labels.horizon_days = {self.horizon_days} is less than labels.negatives_after_days = "
                f"{self.negatives_after_days}: raise the horizon"
            )
        return self


class CostSettings(Section):
    """`[costs]`: what decisions cost; the threshold follows from these, and from what alerts have brought."""

    review_cost: PositiveFloat = Field(5.0, description="cost of one investigated case")
    missed_fraud_fixed: NotNegative = Field(5.0, description="cost of each missed fraud, whatever its amount")
    missed_fraud_factor: NotNegative = Field(
        1.0, description="cost of each missed fraud, as a multiple of its amount"
    )
    alert_budget_cases_per_day: PositiveOrInfinite = Field(
        200.0,
        description="cases a day that investigators can take; a day (UTC) opens at most twice as many, but for "
        "those of one commit; inf: no limit, "
        "but then the forest never alerts",
    )
    case_window_hours: Annotated[float, Field(ge=0.001, le=24 * 36_500)] = Field(
        24.0, description="alerts of one card within this window are one case"
    )

    @model_validator(mode="after")
    def _a_missed_fraud_costs_something(self) -> CostSettings:
        if self.missed_fraud_fixed == self.missed_fraud_factor == 0:
            raise ValueError(
                "costs.missed_fraud_fixed and costs.missed_fraud_factor are both 0: a fraud that costs nothing is "
                "worth no alert; give one of them what a missed fraud costs"
            )
        return self


class FeatureSettings(Section):
    """`[features]`: the memory of cards and other entities."""

    half_lives_days: tuple[Days, Days, Days] = Field(
        (1.0, 5.0, 20.0),
        description="half-lives of the decayed counts and sums: short, middle, long; "
        "bursts of a card have a 24th of the short one",
    )
    max_cards: Positive = Field(
        5_000_000,
        description="cards remembered per partition, and four times as many values of each declared entity that they "
        "have used; a full table evicts what it knows the least of",
    )
    max_entities: Positive = Field(
        2_000_000, description="entities remembered, of all declared fields together; likewise"
    )

    @field_validator("half_lives_days")
    @classmethod
    def _half_lives_ascend(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not value[0] < value[1] < value[2]:
            raise ValueError(f"features.half_lives_days = {value} must ascend: shortest first")
        return value


class ModelSettings(Section):
    """`[model]`: learning."""

    sample_one_in: Positive | None = Field(
        None,
        description="legit decisions kept as examples: 1 in n at least, with weight n, more of those that are rather "
        "likely fraud; unset, as many as max_examples holds",
    )
    fraud_weight: PositiveFloat = Field(
        1.0, description="class weight of fraud; the probability is corrected for it"
    )
    min_frauds: Positive = Field(
        50,
        description="the online model decides once it has learnt so many frauds, all of them older than "
        "labels.negatives_after_days",
    )
    generation_days: Days = Field(
        7.0,
        description="the longest time from one generation, with new bin edges, to the next; while little has matured, "
        "and when the frauds learnt have doubled, it comes sooner",
    )
    challenger: Literal["off", "shadow", "choose"] = Field(
        "choose",
        description="boosted trees beside the tables that learn online: choose lets them decide with the tables as "
        "far as matured days say; shadow scores them, shows what they would have decided and cost, and lets the "
        "tables decide; off makes none, and scoring is faster. A change acts with a generation to come: at the latest "
        "the fifth",
    )
    memory_days: Days = Field(90.0, description="days of examples that a new generation learns from")
    max_examples: Annotated[int, Field(gt=0, le=100_000_000)] = Field(
        400_000, description="examples kept in memory; what does not fit is sampled, and weighs more"
    )
    forest_days: Days = Field(7.0, description="how often the isolation forest is refitted")
    forest_min_rows: Positive = Field(256, description="transactions seen before the forest decides")
    digest_every: Positive = Field(
        256, description="model-log offsets between two digests of the model state"
    )


class BatchSettings(Section):
    """`[batch]`: how much one commit carries."""

    max_records: Positive = Field(20_000, description="transactions, and labels, in one commit at most")
    max_event_time_s: Seconds = Field(3_600.0, description="event time that one commit spans at most")
    commit_interval_ms: Positive = Field(
        50, description="how long a poll waits for more records under light load"
    )
    max_idle_ms: Positive = Field(
        1_000,
        description="how long partitions that are ahead wait for one that is behind; then that one counts as quiet",
    )
    allowed_skew_s: Seconds = Field(300.0, description="how far an event may be ahead of its Kafka timestamp")
    repeat_window: Positive = Field(
        1_000_000, description="offsets of a partition within which a repeat is dropped"
    )
    fuse_share: float = Field(
        0.5, gt=0, le=1, description="share of bad records that stops the worker; 1 never stops it"
    )
    fuse_window: Positive = Field(10_000, description="number of latest records that the fuse counts")


class AlertSettings(Section):
    """`[alerts]`: what an alert carries."""

    fields: tuple[Name, ...] = Field(
        (),
        description="declared fields of the transaction that its alert carries; card numbers are struck out",
    )


class HealthSettings(Section):
    """`[health]`: /metrics, /healthz and /readyz."""

    host: str = Field(
        "127.0.0.1", description="address to listen on; 0.0.0.0: all addresses, as in a container"
    )
    port: int = Field(8080, ge=0, le=65535, description="0 chooses a free one")
    stalled_after_s: PositiveFloat = Field(
        60.0, description="/healthz fails when the poll loop stands still for this long"
    )


class Settings(BaseSettings):
    """All settings of a worker."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,  # one variable leaves the rest of its section as it is
    )

    entity_key: SecretStr = Field(
        description="32 hexadecimal digits: the key of the hashes of all identifiers; another key is another lineage"
    )
    worker: WorkerSettings = WorkerSettings()
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    transaction: TransactionFields = TransactionFields()
    label: LabelFields = LabelFields()
    labels: LabelSettings = LabelSettings()
    costs: CostSettings = CostSettings()
    features: FeatureSettings = FeatureSettings()
    model: ModelSettings = ModelSettings()
    batch: BatchSettings = BatchSettings()
    alerts: AlertSettings = AlertSettings()
    health: HealthSettings = HealthSettings()

    @field_validator("entity_key")
    @classmethod
    def _key_is_128_bits(cls, value: SecretStr) -> SecretStr:
        try:
            key = bytes.fromhex(value.get_secret_value())
        except ValueError:
            key = b""
        if len(key) != 16:
            raise ValueError("entity_key must be 32 hexadecimal digits: make one with `openssl rand -hex 16`")
        return value

    @model_validator(mode="after")
    def _alerts_carry_declared_fields(self) -> Settings:
        declared = (*self.transaction.numeric, *self.transaction.categorical, *self.transaction.entities)
        for name in self.alerts.fields:
            if name not in declared:
                close = get_close_matches(name, declared, n=1)
                meant = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(
                    f"alerts.fields: {name!r} is not declared in [transaction]: declare it as numeric, categorical or "
                    f"entities, or remove it{meant}"
                )
        return self

    @property
    def hash_key(self) -> tuple[int, int]:
        """The two 64-bit halves of `entity_key`, as SipHash takes them."""
        key = bytes.fromhex(self.entity_key.get_secret_value())
        return int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, strongest first: a deployment changes the environment, not the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings
