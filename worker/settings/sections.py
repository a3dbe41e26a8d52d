"""Settings: one TOML file, overridden by `FRAUD_WORKER__SECTION__NAME` in the environment; frozen once read.

Each section is one class; a field's description is the documentation of the setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.settings.mistakes import ENV_PREFIX

Positive = Annotated[int, Field(gt=0)]
PositiveOrInfinite = Annotated[float, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=249)]
TimeFormat = Literal["epoch_ms", "epoch_s", "iso8601"]
StartFrom = Literal["committed", "earliest", "latest"]


class Section(BaseModel):
    """A group of settings; unknown names are errors, so a typing mistake never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkerSettings(Section):
    """`[worker]`: who this process is and where it keeps its local files."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = Field(
        "worker-1", description="static member id and transactional id; unique and stable per process"
    )
    state_dir: Path = Field(
        Path("state"), description="local folder for the waiting decisions; a cache of the journal"
    )


class KafkaSettings(Section):
    """`[kafka]`: how to reach the brokers and how to read."""

    bootstrap: Name = Field("127.0.0.1:9092", description="host:port of one or more brokers, comma separated")
    group: Name = Field("fraud-worker", description="consumer group")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="as the broker's listener"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="required with SASL"
    )
    sasl_username: str | None = Field(None, description="required with SASL")
    sasl_password: SecretStr | None = Field(None, description="required with SASL")
    ssl_ca_file: Path | None = Field(None, description="certificate authority of the brokers")
    ssl_cert_file: Path | None = Field(None, description="client certificate, for mutual TLS")
    ssl_key_file: Path | None = Field(None, description="its key")
    start_from: StartFrom = Field(
        "committed",
        description="where a group without committed offsets starts; `committed` refuses to guess",
    )
    partitioner: Literal["murmur2", "crc32"] = Field(
        "murmur2", description="how producers choose partitions: `murmur2` (Java) or `crc32` (librdkafka)"
    )
    columnar: bool = Field(
        True, description="read whole record batches; false reads record by record, ten times slower"
    )
    session_timeout_ms: Positive = Field(10_000, description="how long a dead worker keeps its partitions")
    transaction_timeout_ms: Positive = Field(
        10_000, description="how long an abandoned transaction stays open"
    )
    commit_deadline_s: PositiveFloat = Field(30.0, description="a commit that takes longer ends the process")

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

    transactions: Name = Field("fraud.transactions.v1", description="read: what is decided on")
    labels: Name = Field("fraud.labels.v1", description="read: what is learnt from; as many partitions")
    alerts: Name = Field("fraud.alerts.v1", description="written: what is worth an investigator's time")
    decisions: Name = Field("fraud.decisions.v1", description="the journal, kept for ever")
    model_log: Name = Field("fraud.model-log.v1", description="what all workers agree on, kept for ever")
    dead_letters: Name = Field("fraud.dead-letters.v1", description="written: what could not be used")

    @model_validator(mode="after")
    def _names_differ(self) -> TopicSettings:
        names = list(self.model_dump().values())
        if len(set(names)) != len(names):
            raise ValueError(f"topics: each needs a name of its own, got {sorted(names)}")
        return self


def _refuse_twice(section: str, fields: list[str]) -> None:
    twice = sorted({name for name in fields if fields.count(name) > 1})
    if twice:
        raise ValueError(f"{section}: field {twice[0]!r} is declared twice; declare it once")


class TransactionFields(Section):
    """`[transaction]`: the user's field names, mapped onto ours, and the fields the user declares."""

    transaction_id: Name = Field("transaction_id", description="required; the same again is a repeat")
    card_id: Name = Field(
        "card_id", description="required; a token, never a card number, and the record's key"
    )
    event_time: Name = Field("event_time", description="required; when the card was used")
    amount: Name = Field("amount", description="required; 0 or more, all in one currency")
    currency: Name | None = Field(None, description="optional; carried to the alert, not a feature")
    time_format: TimeFormat = Field("epoch_ms", description="of `event_time`")
    numeric: tuple[Name, ...] = Field((), description="more numbers to learn from")
    categorical: tuple[Name, ...] = Field((), description="strings of few values to learn from")
    entities: tuple[Name, ...] = Field(
        ("merchant_id",), description="strings of many values that gather history"
    )

    @model_validator(mode="after")
    def _fields_are_distinct(self) -> TransactionFields:
        required = [self.transaction_id, self.card_id, self.event_time, self.amount]
        names = [*required, *self.numeric, *self.categorical, *self.entities]
        if self.currency is not None:
            names.append(self.currency)
        _refuse_twice("transaction", names)
        return self


class LabelFields(Section):
    """`[label]`: the user's field names on the labels topic."""

    transaction_id: Name = Field("transaction_id", description="required; which transaction it is about")
    card_id: Name = Field("card_id", description="required; of that transaction, and the record's key")
    label: Name = Field("label", description="fraud or legit; this or `outcome` is required")
    outcome: Name = Field("outcome", description="declined, blocked, challenged or not_reviewed")
    source: Name = Field("source", description="required; who says so, such as chargeback or analyst")
    label_time: Name = Field("label_time", description="required; when it became known")
    event_time: Name = Field(
        "event_time", description="optional; when the card was used: found sooner with it"
    )
    supersedes: Name = Field("supersedes", description="optional; an earlier label that this one replaces")
    time_format: TimeFormat = Field(
        "epoch_ms", description="of `label_time` and `event_time`; if it is not set, that of [transaction]"
    )

    @model_validator(mode="after")
    def _fields_are_distinct(self) -> LabelFields:
        _refuse_twice("label", [value for name, value in self if name != "time_format"])
        return self


class LabelSettings(Section):
    """`[labels]`: what silence means, and for how long."""

    negatives_after_days: PositiveFloat = Field(
        7.0, description="silence is provisionally legit after this long"
    )
    horizon_days: PositiveFloat = Field(60.0, description="silence is finally legit after this long")
    keep_after_horizon_days: PositiveFloat = Field(30.0, description="a later label still finds its decision")
    max_silence_days: PositiveFloat = Field(3.0, description="a label feed silent for longer halts maturing")

    @model_validator(mode="after")
    def _horizons_are_ordered(self) -> LabelSettings:
        if self.horizon_days < self.negatives_after_days:
            raise ValueError(
                f"labels.horizon_days = {self.horizon_days} lies before labels.negatives_after_days = "
                f"{self.negatives_after_days}: raise the horizon"
            )
        return self


class CostSettings(Section):
    """`[costs]`: what a decision costs; the threshold follows from these alone."""

    review_cost: PositiveFloat = Field(5.0, description="of one investigated case")
    missed_fraud_fixed: NotNegative = Field(5.0, description="of each missed fraud, whatever its amount")
    missed_fraud_factor: NotNegative = Field(1.0, description="of each missed fraud, times its amount")
    alert_budget_cases_per_day: PositiveOrInfinite = Field(
        200.0,
        description="how many cases investigators can take; a day (UTC) opens at most twice as many; inf for no limit, "
        "but then the forest never alerts",
    )
    case_window_hours: PositiveFloat = Field(24.0, description="alerts of one card within it are one case")


class FeatureSettings(Section):
    """`[features]`: what is remembered of cards and other entities."""

    half_lives_days: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        (1.0, 5.0, 20.0), description="how fast what is remembered fades: short, middle, long"
    )
    max_cards: Positive = Field(
        5_000_000, description="rows per partition before the least recent are evicted"
    )
    max_entities: Positive = Field(2_000_000, description="rows of all declared entities together, likewise")

    @field_validator("half_lives_days")
    @classmethod
    def _half_lives_ascend(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not value[0] < value[1] < value[2]:
            raise ValueError(f"features.half_lives_days = {value} must ascend: shortest first")
        return value


class ModelSettings(Section):
    """`[model]`: learning."""

    sample_one_in: Positive = Field(10, description="legit decisions kept as examples: 1 in n, with weight n")
    fraud_weight: PositiveFloat = Field(1.0, description="class weight of fraud, undone in the probability")
    min_frauds: Positive = Field(
        100, description="the online model decides once it has learnt so many frauds"
    )
    generation_days: PositiveFloat = Field(7.0, description="how often bin edges are redrawn")
    memory_days: PositiveFloat = Field(90.0, description="examples a new generation learns from")
    max_examples: Positive = Field(400_000, description="examples kept in memory; the oldest go first")
    forest_days: PositiveFloat = Field(7.0, description="how often the isolation forest is refitted")
    forest_min_rows: Positive = Field(2_000, description="transactions seen before a forest decides")
    digest_every: Positive = Field(
        256, description="model-log offsets between two digests of the model state"
    )


class BatchSettings(Section):
    """`[batch]`: how much one commit carries."""

    max_records: Positive = Field(
        20_000, description="transactions in one commit, but those of one event time stay together"
    )
    max_event_time_s: PositiveFloat = Field(3_600.0, description="event time one commit spans at most")
    commit_interval_ms: Positive = Field(50, description="how long a poll waits for more under light load")
    max_idle_ms: Positive = Field(
        1_000,
        description="how long partitions that are ahead wait for one that is behind, and when one counts as quiet",
    )
    allowed_skew_s: PositiveFloat = Field(
        300.0, description="how far an event may be ahead of its Kafka timestamp"
    )
    repeat_window: Positive = Field(
        1_000_000, description="transactions of a partition in which repeats are dropped"
    )
    fuse_share: float = Field(
        0.5, gt=0, le=1, description="share of bad records that stops the worker; 1 never does"
    )
    fuse_window: Positive = Field(10_000, description="records the fuse looks back on")


class HealthSettings(Section):
    """`[health]`: /metrics, /healthz and /readyz."""

    host: str = Field("127.0.0.1", description="address to listen at; 0.0.0.0 for all, as in a container")
    port: int = Field(8080, ge=0, le=65535, description="0 chooses a free one")
    stalled_after_s: PositiveFloat = Field(
        60.0, description="/healthz fails when the poll loop stands still so long"
    )


class Settings(BaseSettings):
    """Everything a worker is told."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    entity_key: SecretStr = Field(
        description="32 hexadecimal digits; keys the hashes of every identifier. Changing it begins a new lineage."
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
        """The environment overrides the file: it is what a deployment changes."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings
