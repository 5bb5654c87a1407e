"""Every option: its unit, default, bounds, and where it comes from."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

Scalar = str | int | float | bool
Seconds = Annotated[float, BeforeValidator(lambda value: value)]
TextList = Annotated[list[str], BeforeValidator(lambda value: value)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Section):
    bootstrap_servers: str
    topics: TextList
    group_id: str = "inventory-refresh"
    max_distance: int = Field(default=5_000_000, ge=1)
    """Messages a partition may be read past its watermark."""
    revoke_timeout: Seconds = 30.0
    unreachable_timeout: Seconds = 30.0
    poll_messages_max: int = Field(default=5_000, ge=1, le=100_000)
    properties: dict[str, Scalar] = Field(default_factory=dict)


class AvroSettings(Section):
    framing: Literal["confluent", "single-object", "bare"] = "confluent"
    decoder: Literal["columnar", "fastavro"] = "columnar"
    registry_url: str | None = None
    registry: dict[str, Scalar] = Field(default_factory=dict)
    schema_file: str | None = None
    fields: dict[str, str] = Field(default_factory=dict)
    """OMS name (or occurredAt) to the path of a field in the event, for events with other names; rest by the same name."""


class WindowSettings(Section):
    max_age: Seconds = 300.0
    flush_items: int = Field(default=12_000, ge=1)
    max_pending_changes: int = Field(default=1_000_000, ge=1)
    item_key: TextList = Field(default_factory=lambda: ["partNumber", "upc", "sku", "binID"])


class OmsSettings(Section):
    api: Literal["inventory-specific", "inventory-v5"] = "inventory-specific"
    base_url: str
    token_url: str
    api_key: SecretStr
    api_secret: SecretStr
    timeout: Seconds = 30.0
    unknown_hold: Seconds = 120.0
    chunk_items: int = Field(default=3_000, ge=1)
    max_items: int = Field(default=12_000, ge=1)
    max_in_flight: int = Field(default=8, ge=1, le=256)
    backoff_min: Seconds = 1.0
    backoff_max: Seconds = 60.0


class DeadLetterSettings(Section):
    topic: str = "inventory-refresh.dead-letters"
    max_ratio: float = Field(default=0.5, gt=0, le=1)


class HttpSettings(Section):
    host: str = "0.0.0.0"  # noqa: S104 - a pod's probes and Prometheus come from outside
    port: int = Field(default=8080, ge=0, le=65_535)


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(Section):
    kafka: KafkaSettings
    oms: OmsSettings
    avro: AvroSettings = Field(default_factory=AvroSettings)
    window: WindowSettings = Field(default_factory=WindowSettings)
    dead_letters: DeadLetterSettings = Field(default_factory=DeadLetterSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
