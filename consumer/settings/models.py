"""Every option, in its section: description with unit, default and bounds. docs/configuration.md is made of this."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from consumer.core.changes.columns import GRANULAR_COLUMN_TYPES, IDENTIFIERS, ITEM_KEY, LOCATION, PLAIN_COLUMN_TYPES
from consumer.settings.values import (
    OMS_ITEMS_MAX,
    is_loopback,
    parse_items_or_auto,
    parse_list,
    parse_map,
    parse_scalar_map,
    parse_seconds,
    parse_url,
    parse_url_list,
)

ItemsOrAuto = Annotated[int | Literal["auto"], BeforeValidator(parse_items_or_auto)]
Scalar = str | int | float | bool
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
TextList = Annotated[list[str], BeforeValidator(parse_list)]
ScalarMap = Annotated[dict[str, Scalar], BeforeValidator(parse_scalar_map)]
TextMap = Annotated[dict[str, str], BeforeValidator(parse_map)]
Url = Annotated[str, AfterValidator(parse_url)]
UrlList = Annotated[str, AfterValidator(parse_url_list)]
Text = Annotated[str, Field(min_length=1)]

FIELD_TARGETS: Final = (LOCATION, *PLAIN_COLUMN_TYPES, *GRANULAR_COLUMN_TYPES, "occurredAt")
"""What ``avro.fields`` may say the place of."""

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


class Section(BaseModel):
    """A group of options. Unknown ones are errors, and nothing changes after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_and_false_are_no_numbers(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("must not be true or false")
        return value


class KafkaSettings(Section):
    """Where the changes come from."""

    bootstrap_servers: Text = Field(description="Brokers to ask first: `host:port`, several separated by commas.")
    topics: TextList = Field(min_length=1, description="Topics with inventory changes. Patterns are not taken.")
    group_id: Text = Field(
        default="inventory-refresh", description="Consumer group: its committed offsets are how far the OMS has got."
    )
    max_uncommitted_offsets: int = Field(
        default=5_000_000,
        ge=1,
        le=1_000_000_000,
        description="Messages a partition may be read past its watermark before it is paused. "
        "It bounds what another member must read again when it takes the partition over.",
    )
    revoke_timeout: Seconds = Field(
        default=30.0,
        gt=0,
        le=3_600,
        description="How long requests in flight are waited for when partitions are handed on, and at the end. "
        "Must be less than the client's `max.poll.interval.ms`.",
    )
    unreachable_timeout: Seconds = Field(
        default=30.0, gt=0, le=3_600, description="How long the brokers may be unreachable at the start."
    )
    poll_messages_max: int = Field(default=5_000, ge=1, le=100_000, description="Messages taken in by one poll.")
    properties: ScalarMap = Field(
        default_factory=dict,
        description="Any option of librdkafka, by its own name (`security.protocol`, `sasl.password`, ...), but for "
        "those on which the service's promise rests.",
    )

    @field_validator("topics")
    @classmethod
    def _topics_are_names(cls, topics: list[str]) -> list[str]:
        for topic in topics:
            if not _TOPIC.fullmatch(topic):
                raise ValueError('must be names of topics: letters, digits, ".", "_", "-", at most 249 of them')
        return _without_repeats(topics)


class AvroSettings(Section):
    """How a message's bytes become a change."""

    framing: Literal["confluent", "single-object", "bare"] = Field(
        default="confluent",
        description="What stands before the Avro value: `confluent` a zero byte and a schema id, `single-object` the "
        "marker and fingerprint of Avro's single-object encoding, `bare` nothing.",
    )
    decoder: Literal["columnar", "fastavro"] = Field(
        default="columnar",
        description="`columnar` decodes whole batches; `fastavro` message by message, many times slower.",
    )
    registry_url: UrlList | None = Field(
        default=None, description="Address of the schema registry; several separated by commas."
    )
    registry: ScalarMap = Field(
        default_factory=dict,
        description="Any option of confluent-kafka's schema registry client, by its own name "
        "(`basic.auth.user.info`, `ssl.ca.location`, ...).",
    )
    schema_file: Text | None = Field(
        default=None,
        description="Avro schema (JSON) of all messages, used instead of a registry; with Confluent framing whatever "
        "the message's schema id.",
    )
    fields: TextMap = Field(
        default_factory=dict,
        description="For events with other names: name of the OMS (or `locationName`, `occurredAt`) to the path of a "
        "field in the event, dots between levels; of several paths with commas between, the first that the schema has. "
        "What is not named here is looked for under its own name "
        "(lotCode, condition, date, serialNumber and externalID only with oms.api unified-commerce).",
    )

    @field_validator("fields")
    @classmethod
    def _fields_are_of_the_oms(cls, fields: dict[str, str]) -> dict[str, str]:
        for name, path in fields.items():
            if name not in FIELD_TARGETS:
                raise ValueError(f"has no place for {name!r}; it takes {', '.join(FIELD_TARGETS)}")
            if not all(part for each in path.split(",") for part in each.strip().split(".")):
                raise ValueError(f"needs a path such as a.b for {name}, not {path!r}")
        return fields


class WindowSettings(Section):
    """When a location's changes leave."""

    max_age: Seconds = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="How long a change may wait after it was read while the OMS is well. Locations / max_age is the "
        "number of small jobs a second that the OMS's queue must bear.",
    )
    flush_items: ItemsOrAuto = Field(
        default=OMS_ITEMS_MAX,
        description="Distinct items of a location that leave without waiting for max_age; a multiple of "
        "oms.chunk_items. `auto` follows the OMS's queue: one chunk while it is idle, a chunk more for each of our "
        "jobs that has not ended; it needs oms.track_jobs.",
    )
    max_pending_changes: int = Field(
        default=1_000_000,
        ge=1,
        le=100_000_000,
        description="Changes held in memory, roughly 0.2 kB each: above it reading pauses, below 75 % of it reading "
        "goes on.",
    )
    item_key: TextList = Field(
        default_factory=lambda: list(ITEM_KEY),
        description="Columns that together say that two changes of a location are of one item. "
        "A change that has none of the identifiers among them is a dead letter.",
    )

    @field_validator("item_key")
    @classmethod
    def _item_key_names_items(cls, columns: list[str]) -> list[str]:
        if not set(columns) <= set(ITEM_KEY) or not set(columns) & set(IDENTIFIERS):
            raise ValueError(f"must be some of {', '.join(ITEM_KEY)}, with one of {', '.join(IDENTIFIERS)} among them")
        return _without_repeats(columns)


class OmsSettings(Section):
    """Where the refresh requests go, and how hard the OMS may be pressed."""

    api: Literal["inventory-specific", "inventory-v5", "unified-commerce"] = Field(
        default="inventory-specific",
        description="The API package that the key belongs to: Inventory Specific (the one to prefer) or Inventory V5; "
        "or Unified Commerce, the OMS's newest API.",
    )
    base_url: Url = Field(
        description="Address of the OMS without the call's path: `https://host`, for Unified Commerce often "
        "`https://host/api`."
    )
    tenant: int | None = Field(
        default=None,
        ge=1,
        le=2**63 - 1,
        description="Number of the tenant, only for Unified Commerce, which needs it with each call.",
    )
    token_url: Url = Field(description="Address of the token endpoint, with its path.")
    api_key: SecretStr = Field(min_length=1, description="API key. Read again at each renewal of the token.")
    api_secret: SecretStr = Field(
        min_length=1, description="The key's secret. Read again at each renewal of the token."
    )
    allow_http: bool = Field(
        default=False,
        description="Take `http://` addresses of other machines, over which key and counts travel in the clear.",
    )
    ca_file: Text | None = Field(
        default=None,
        description="Certificates (PEM) of the authorities to trust for base_url and token_url, in place of the usual "
        "ones.",
    )
    client_cert_file: Text | None = Field(
        default=None, description="Certificate (PEM, its chain after it) to show to the OMS, where it wants one."
    )
    client_key_file: Text | None = Field(
        default=None,
        description="The certificate's private key (PEM, without a password), unless it is in client_cert_file too.",
    )
    timeout: Seconds = Field(
        default=30.0, gt=0, le=600, description="How long one call may take; after it the outcome is unknown."
    )
    unknown_hold: Seconds = Field(
        default=120.0,
        ge=1,
        le=86_400,
        description="How long a location sends nothing after an unknown outcome: the OMS's own time limit, since the "
        "lost request may still be queued until then.",
    )
    chunk_items: int = Field(default=3_000, ge=1, le=OMS_ITEMS_MAX, description="Items that the OMS works off at once.")
    max_items: int = Field(default=OMS_ITEMS_MAX, ge=1, le=OMS_ITEMS_MAX, description="Items in one request.")
    max_in_flight: int = Field(
        default=8, ge=1, le=256, description="Requests under way at once, each of another location."
    )
    max_requests_per_second: float | None = Field(
        default=None,
        gt=0,
        le=1_000,
        allow_inf_nan=False,
        description="Calls a second (refresh and get-job together) of this process at most; divide the key's quota by "
        "the number of processes. Without it a limit is learned from over-quota answers.",
    )
    bisection_requests_max: int = Field(
        default=200,
        ge=32,
        le=10_000,
        description="Further requests by which the items are looked for that made the OMS refuse a request. What is "
        "left after them goes to the dead letters.",
    )
    track_jobs: bool = Field(
        default=True,
        description="Ask the OMS what became of each job, with few calls, until it has ended.",
    )
    job_age_max: Seconds = Field(
        default=86_400.0,
        ge=60,
        le=2_592_000,
        description="A job that has not ended so long after its jobID came counts as never finished.",
    )
    backoff_min: Seconds = Field(
        default=1.0, gt=0, le=3_600, description="The first wait after a failure is up to this long, then it doubles."
    )
    backoff_max: Seconds = Field(
        default=60.0, gt=0, le=3_600, description="No wait after a failure is longer by itself."
    )

    @field_validator("base_url")
    @classmethod
    def _base_url_is_no_call(cls, url: str) -> str:
        if url.endswith("/inventory/refresh"):
            raise ValueError("must be the address without the call's path, such as https://host: oms.api says the path")
        return url


class DeadLetterSettings(Section):
    """Where changes go that can never be sent."""

    topic: str = Field(
        default="inventory-refresh.dead-letters",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="Topic for rejected changes, on the same brokers.",
    )
    max_ratio: float = Field(
        default=0.5,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the last 10,000 changes (at least 1,000) that may be rejected; above it the service "
        "stops, since something upstream must be wrong.",
    )


class HttpSettings(Section):
    """The status page, metrics and probes."""

    host: Text = Field(
        default="0.0.0.0",  # noqa: S104 - a pod's probes and Prometheus come from outside
        description="Address to listen on.",
    )
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")


class MetricsSettings(Section):
    """What Prometheus is told beyond what always is."""

    locations_max: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="So many locations, the first that are seen, have series of their own, about six each; 0: none. "
        "A scrape takes about 0.1 s longer for each 1,000 of them.",
    )


class LogSettings(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is logged.")
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`json` one object a line, `console` for people, `auto` console on a terminal."
    )


class Settings(Section):
    """All options. Wrong by themselves or together, they are refused when this is made."""

    kafka: KafkaSettings
    avro: AvroSettings = Field(default_factory=AvroSettings)
    window: WindowSettings = Field(default_factory=WindowSettings)
    oms: OmsSettings
    dead_letters: DeadLetterSettings = Field(default_factory=DeadLetterSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        problems = [*_item_limits(self.window, self.oms), *_schema_source(self.avro), *_addresses(self.oms)]
        problems += [*_api_options(self.avro, self.oms), *_certificates(self.oms)]
        if self.oms.backoff_min > self.oms.backoff_max:
            problems.append(
                f"oms.backoff_min: {self.oms.backoff_min:g} s must be at most oms.backoff_max "
                f"({self.oms.backoff_max:g} s)"
            )
        if self.dead_letters.topic in self.kafka.topics:
            problems.append(f'dead_letters.topic: "{self.dead_letters.topic}" must not be one of kafka.topics')
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _item_limits(window: WindowSettings, oms: OmsSettings) -> list[str]:
    problems = []
    if oms.chunk_items > oms.max_items:
        problems.append(f"oms.chunk_items: {oms.chunk_items} must be at most oms.max_items ({oms.max_items})")
    if window.flush_items == "auto":
        if not oms.track_jobs:
            problems.append("window.flush_items: auto needs oms.track_jobs: true, to know how far the OMS is behind")
        if window.max_pending_changes < oms.max_items:
            problems.append(
                f"window.max_pending_changes: {window.max_pending_changes} must be at least oms.max_items "
                f"({oms.max_items}) for window.flush_items: auto"
            )
        return problems
    if window.flush_items > oms.max_items:
        problems.append(f"window.flush_items: {window.flush_items} must be at most oms.max_items ({oms.max_items})")
    if window.flush_items % oms.chunk_items:
        problems.append(
            f"window.flush_items: {window.flush_items} must be a multiple of oms.chunk_items ({oms.chunk_items})"
        )
    if window.max_pending_changes < window.flush_items:
        problems.append(
            f"window.max_pending_changes: {window.max_pending_changes} must be at least window.flush_items "
            f"({window.flush_items})"
        )
    return problems


def _schema_source(avro: AvroSettings) -> list[str]:
    if avro.schema_file and avro.registry_url:
        return ["avro.schema_file: must not be set beside avro.registry_url: choose one"]
    if avro.framing != "confluent" and not avro.schema_file:
        return [f'avro.schema_file: must be set, as avro.framing "{avro.framing}" has no use for a registry']
    if avro.framing == "confluent" and not avro.registry_url and not avro.schema_file:
        return ["avro.registry_url: must be set, or avro.schema_file in its place"]
    return []


def _addresses(oms: OmsSettings) -> list[str]:
    if oms.allow_http:
        return []
    return [
        f"oms.{name}: must be https:// (or set oms.allow_http: true, and key and counts travel in the clear)"
        for name, url in (("base_url", oms.base_url), ("token_url", oms.token_url))
        if url.startswith("http://") and not is_loopback(url)
    ]


def _api_options(avro: AvroSettings, oms: OmsSettings) -> list[str]:
    """What belongs to one API of the OMS only."""
    if oms.api == "unified-commerce":
        return [] if oms.tenant else ["oms.tenant: must be set, as oms.api unified-commerce needs it with each call"]
    problems = []
    if oms.tenant is not None:
        problems.append(f"oms.tenant: must not be set, as oms.api {oms.api} has no tenants")
    granular = [name for name in avro.fields if name in GRANULAR_COLUMN_TYPES]
    if granular:
        problems.append(f"avro.fields: {', '.join(granular)} can only be sent with oms.api unified-commerce")
    return problems


def _certificates(oms: OmsSettings) -> list[str]:
    if oms.client_key_file and not oms.client_cert_file:
        return ["oms.client_cert_file: must be set, as oms.client_key_file is its key"]
    return []


def _without_repeats(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("must not name anything twice")
    return names
