"""Every setting, by section: description, unit, default and bounds. docs/configuration.md is generated from this.

The section ``events`` has a module of its own, and so have ``http``, ``metrics`` and ``log``.
"""

import re
from typing import Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from consumer.core.changes.columns import IDENTIFIERS, ITEM_KEY
from consumer.settings.combinations import combination_problems
from consumer.settings.events import EventsSettings
from consumer.settings.observing import HttpSettings, LogSettings, MetricsSettings
from consumer.settings.section import (
    BodyBytes,
    BytesOrAuto,
    HeaderMap,
    ItemsOrAuto,
    ProxyUrl,
    ScalarMap,
    Seconds,
    Section,
    Text,
    TextList,
    TextMap,
    Url,
    UrlList,
    without_repeats,
)
from consumer.settings.values import OMS_ITEMS_MAX

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


class KafkaSettings(Section):
    """Kafka: where the changes are read from."""

    bootstrap_servers: Text = Field(description="Bootstrap brokers, as `host:port`; separate several with commas.")
    topics: TextList = Field(min_length=1, description="Topics with inventory changes. Patterns are not supported.")
    group_id: Text = Field(
        default="inventory-refresh",
        description="Consumer group. Its committed offsets record which changes the OMS has accepted.",
    )
    max_uncommitted_offsets: int = Field(
        default=1_000_000,
        ge=1,
        le=1_000_000_000,
        description="How many offsets a partition may be read past its committable offset before it is paused. "
        "Bounds how much another member must read again when it takes over the partition. Half of the memory for "
        "pending changes (`memory.budget`) bounds the same in bytes, and is usually reached first.",
    )
    revoke_timeout: Seconds = Field(
        default=30.0,
        gt=0,
        le=3_600,
        description="How long to wait for requests in flight when partitions are revoked and at shutdown. "
        "Must be less than the client's `max.poll.interval.ms`.",
    )
    unreachable_timeout: Seconds = Field(
        default=30.0, gt=0, le=3_600, description="How long to wait for unreachable brokers at startup."
    )
    poll_messages_max: int = Field(default=5_000, ge=1, le=100_000, description="Messages read by one poll, at most.")
    token_provider: Text | None = Field(
        default=None,
        description="Where tokens for SASL OAUTHBEARER come from, if librdkafka cannot fetch them: `msk-iam` for AWS "
        "MSK (needs the extra `msk`), or a plugin's name; see docs/kafka-security.md.",
    )
    properties: ScalarMap = Field(
        default_factory=dict,
        description="Any librdkafka option by its own name (`security.protocol`, `sasl.password`, ...), except those "
        "that the service must control so that no change is lost.",
    )

    @field_validator("topics")
    @classmethod
    def _topics_are_names(cls, topics: list[str]) -> list[str]:
        for topic in topics:
            if not _TOPIC.fullmatch(topic):
                raise ValueError('must be topic names: letters, digits, ".", "_", "-", at most 249 characters')
        return without_repeats(topics)


class AvroSettings(Section):
    """Decoding: how the bytes of a message become a change."""

    framing: Literal["confluent", "apicurio", "aws-glue", "single-object", "bare", "container"] = Field(
        default="confluent",
        description="What precedes the Avro value: `confluent` a zero byte and a schema id of 4 bytes, `apicurio` a "
        "zero byte and an id of 8 bytes, `aws-glue` the header of AWS Glue with a schema version id, `single-object` "
        "the marker and fingerprint of Avro's single-object encoding, `bare` nothing. `container`: the value is an "
        "Avro object container file, and each of its rows is a change; with `events.items` it must have one row. With "
        "`confluent` and `apicurio`, a header that names the schema (`__value_schema_id`, `apicurio.value.globalId`, "
        "`apicurio.value.contentId`) takes precedence, and the whole value is then the Avro value.",
    )
    decoder: Literal["columnar", "fastavro"] = Field(
        default="columnar",
        description="`columnar` decodes whole batches; `fastavro` decodes message by message and is many times slower.",
    )
    registry_url: UrlList | None = Field(
        default=None, description="URL of the schema registry; separate several with commas."
    )
    registry: ScalarMap = Field(
        default_factory=dict,
        description="Any option of confluent-kafka's schema registry client by its own name "
        "(`basic.auth.user.info`, `ssl.ca.location`, `proxy`, ...).",
    )
    registry_tls_strict: bool = Field(
        default=True, description="As oms.tls_strict, for the certificates of the schema registry."
    )
    registry_ids: Literal["content", "global"] | None = Field(
        default=None,
        description="Which ids precede the values: `content` those of the registry's Confluent API, which are the "
        "content ids of an Apicurio Registry, or `global` the global ids of an Apicurio Registry, which its 2.x "
        "serializers write by default. Required for framing `apicurio` with a registry; otherwise `content` if unset.",
    )
    unknown_schema_wait: Seconds = Field(
        default=60.0,
        ge=0,
        le=300,
        description="How long a partition waits for a schema that the registry does not know yet, in any 10 minutes. "
        "After that, messages with unknown ids are rejected at once.",
    )
    schema_file: Text | None = Field(
        default=None,
        description="Avro schema (JSON) of all messages, used instead of a registry. If messages have ids, it is the "
        "schema of one id, and a message with another id stops the service. A folder (its files `*.avsc`), or "
        "several files separated by commas: with `single-object` the schema is found by its fingerprint, otherwise by "
        "the file's name, which is the id in the message: `7.avsc`.",
    )
    schema_file_id: int | None = Field(
        default=None,
        ge=0,
        le=2**63 - 1,
        description="Schema id of a single schema_file. If unset, the first id that a process reads, with a warning.",
    )
    schema_file_for_all_ids: bool = Field(
        default=False,
        description="Read messages of any schema id with a single schema_file: all have been written with its schema.",
    )
    key_schema_file: Text | None = Field(
        default=None, description="Avro schema (JSON) of the keys, for `events.key_format` avro with schema_file."
    )


class WindowSettings(Section):
    """Windows: when the changes of a location are sent."""

    max_age: Seconds = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="How long a change may wait after it was read, while the OMS is healthy. A shorter time means "
        "more, smaller jobs: each location with changes sends at least one per max_age.",
    )
    flush_items: ItemsOrAuto = Field(
        default=OMS_ITEMS_MAX,
        description="Number of distinct items at which a location is sent without waiting for max_age; a multiple of "
        "oms.chunk_items. `auto` follows the OMS's queue: one chunk while it is idle, and one chunk more for each of "
        "our unfinished jobs; it needs oms.track_jobs.",
    )
    small_items: int = Field(
        default=25,
        ge=0,
        le=1_000,
        description="With oms.endpoint smart-refresh: up to this many items of a quiet location leave after "
        "small_max_age; 0: none. It should be at most what the OMS applies at once.",
    )
    small_max_age: Seconds = Field(
        default=10.0,
        gt=0,
        le=86_400,
        description="How long the few changes of a quiet location wait then, while its partitions are read to their "
        "end and a quarter of the quota is free.",
    )
    item_key: TextList = Field(
        default_factory=lambda: list(ITEM_KEY),
        description="Columns that together identify an item within its location. "
        "A change without any of the identifiers among them is dead-lettered.",
    )

    @field_validator("item_key")
    @classmethod
    def _item_key_has_an_identifier(cls, columns: list[str]) -> list[str]:
        if not set(columns) <= set(ITEM_KEY) or not set(columns) & set(IDENTIFIERS):
            raise ValueError(f"must be some of {', '.join(ITEM_KEY)}, including one of {', '.join(IDENTIFIERS)}")
        return without_repeats(columns)


class OmsSettings(Section):
    """The OMS: where requests are sent, and how fast."""

    api: Literal["inventory-specific", "inventory-v5", "unified-commerce"] = Field(
        default="inventory-specific",
        description="The API package of the key: Inventory Specific (preferred), Inventory V5, or Unified Commerce, "
        "the OMS's newest API.",
    )
    base_url: Url = Field(
        description="URL of the OMS without the path of a call: `https://host`, for Unified Commerce often "
        "`https://host/api`."
    )
    tenant: int | None = Field(
        default=None,
        ge=1,
        le=2**63 - 1,
        description="Tenant number. Required for Unified Commerce, not allowed for the other APIs.",
    )
    token_url: Url = Field(description="URL of the token endpoint, including its path.")
    api_key: SecretStr = Field(min_length=1, description="API key. Reloaded whenever the access token is renewed.")
    api_secret: SecretStr = Field(
        min_length=1, description="Secret of the API key. Reloaded whenever the access token is renewed."
    )
    allow_http: bool = Field(
        default=False,
        description="Allow `http://` URLs of other machines. The key and the counts are then sent in clear text.",
    )
    ca_file: Text | None = Field(
        default=None,
        description="CA certificates (PEM) to trust for base_url and token_url, instead of the default ones. This "
        "file and those of the client certificate are read again when they change.",
    )
    client_cert_file: Text | None = Field(
        default=None,
        description="Client certificate (PEM, followed by its chain), if the OMS requires mutual TLS.",
    )
    client_key_file: Text | None = Field(
        default=None,
        description="Private key of the client certificate (PEM), unless client_cert_file contains it.",
    )
    client_key_password: SecretStr | None = Field(
        default=None, min_length=1, description="Password of the private key, if it is encrypted."
    )
    tls_strict: bool = Field(
        default=True,
        description="`false`: take certificates that fail only Python's strict checks (from 3.13 on), such as those of "
        "a private authority without key identifiers. They are verified as curl and openssl do.",
    )
    proxy: ProxyUrl | None = Field(
        default=None,
        description="HTTP proxy for base_url and token_url, such as `http://user:password@host:3128`, or `direct` for "
        "none. If unset, HTTPS_PROXY (or HTTP_PROXY), ALL_PROXY and NO_PROXY of the environment apply.",
    )
    headers: HeaderMap = Field(
        default_factory=dict,
        description="Further headers of each call, such as a gateway's subscription key. Their values are never "
        "shown. The token request has them only if token_url is on the same host as base_url.",
    )
    token_auth: Literal["basic", "body"] = Field(
        default="basic",
        description="Where the token request has key and secret: `basic`, the Authorization header; `body`, the form. "
        "Unified Commerce always takes them in the body.",
    )
    token_scope: Text | None = Field(default=None, description="`scope` of the token request.")
    token_audience: Text | None = Field(default=None, description="`audience` of the token request.")
    token_fields: TextMap = Field(
        default_factory=dict, description="Further fields of the token request, such as `resource`."
    )
    timeout: Seconds = Field(
        default=30.0, gt=0, le=600, description="Timeout of a call; the outcome of a call that times out is unknown."
    )
    unknown_hold: Seconds = Field(
        default=120.0,
        ge=1,
        le=86_400,
        description="How long nothing is sent for a location after a request with an unknown outcome. Set it to the "
        "OMS's own time limit for a request: until then the OMS may still queue it.",
    )
    endpoint: Literal["refresh", "smart-refresh"] = Field(
        default="refresh",
        description="`smart-refresh`: small requests are applied at once, without a job. A location uses it while none "
        "of its earlier jobs can be unfinished, and `refresh` until then. Needs Unified Commerce and track_jobs.",
    )
    only_sender: bool = Field(
        default=False,
        description="`true`: nobody but this release sends refresh requests to the OMS, for any location. After a "
        "request with an unknown outcome the list of jobs may then end oms.unknown_hold early. Needs Unified Commerce, "
        "track_jobs, and a process that has all partitions.",
    )
    chunk_items: int = Field(
        default=3_000, ge=1, le=OMS_ITEMS_MAX, description="Items that the OMS processes at a time."
    )
    max_items: int = Field(default=OMS_ITEMS_MAX, ge=1, le=OMS_ITEMS_MAX, description="Items in a request, at most.")
    max_request_bytes: BodyBytes | None = Field(
        default=None,
        description="Bytes of a request's body, at most, if a gateway has such a limit: larger requests are sent with "
        "fewer items. If unset, the limit is learned from answers with status 413.",
    )
    max_in_flight: int = Field(default=8, ge=1, le=256, description="Requests in flight, at most; one per location.")
    max_requests_per_second: float | None = Field(
        default=None,
        gt=0,
        le=1_000,
        allow_inf_nan=False,
        description="Calls per second (refresh and get-job together) of this process, at most; divide the key's quota "
        "by the number of processes. If unset, the limit is learned from over-quota answers.",
    )
    bisection_requests_max: int = Field(
        default=200,
        ge=32,
        le=10_000,
        description="Requests spent on the bisection of a refused request, at most. Changes that are still suspect "
        "after that are dead-lettered.",
    )
    set_aside_max: Seconds = Field(
        default=3_600.0,
        ge=60,
        le=2_592_000,
        description="A location that is refused whole while others are accepted is set aside: it is probed, and the "
        "others go on. After this long, the changes in its refused requests are dead-lettered.",
    )
    dead_letter_locations: TextList = Field(
        default_factory=list,
        max_length=1_000,
        description="Locations that need not be set aside that long: once they are, the changes in their refused "
        "requests are dead-lettered at once.",
    )
    track_jobs: bool = Field(
        default=True,
        description="Poll the OMS for the status of each job, with few calls, until it has ended.",
    )
    unfinished_jobs_max: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Unfinished jobs of this process, at most; needs track_jobs. At the limit nothing is sent, and "
        "waiting changes are coalesced, until the OMS has finished a tenth of them.",
    )
    job_age_max: Seconds = Field(
        default=86_400.0,
        ge=60,
        le=2_592_000,
        description="A job that has not ended this long after it was accepted counts as never finished.",
    )
    backoff_min: Seconds = Field(
        default=1.0, gt=0, le=3_600, description="Upper bound of the first back-off after a failure; it then doubles."
    )
    backoff_max: Seconds = Field(
        default=60.0, gt=0, le=3_600, description="Longest back-off, unless the OMS's `Retry-After` asks for more."
    )

    @field_validator("token_fields")
    @classmethod
    def _token_fields_are_further_ones(cls, fields: dict[str, str]) -> dict[str, str]:
        fixed = sorted(fields.keys() & {"grant_type", "client_id", "client_secret", "scope", "audience"})
        if fixed:
            raise ValueError(f"must not contain {', '.join(fixed)}, which have settings of their own or are fixed")
        return fields

    @field_validator("base_url")
    @classmethod
    def _base_url_has_no_call_path(cls, url: str) -> str:
        if url.endswith("/inventory/refresh"):
            raise ValueError(
                "must be the URL without the path of a call, such as https://host; oms.api determines the path"
            )
        return url


class MemorySettings(Section):
    """Memory: how much all that grows may take."""

    budget: BytesOrAuto = Field(
        default="auto",
        description="Bounds pending changes and everything else that grows with the load, in bytes; the table below "
        "has its parts. `auto`: half of what the container's memory limit leaves after 128MiB for the process itself; "
        "without a limit, 512MiB are taken as the limit.",
    )


class DeadLetterSettings(Section):
    """Dead letters: where changes go that can never be sent."""

    topic: str = Field(
        default="inventory-refresh.dead-letters",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="Dead-letter topic, on the same brokers. It must exist.",
    )
    max_ratio: float = Field(
        default=0.5,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the last 10,000 changes (once there are 1,000) that may be rejected. Above it the "
        "service stops, because something upstream must be wrong.",
    )


class Settings(Section):
    """All settings. Values that are wrong, or do not fit together, raise ValidationError on construction."""

    kafka: KafkaSettings
    avro: AvroSettings = Field(default_factory=AvroSettings)
    events: EventsSettings = Field(default_factory=EventsSettings)
    window: WindowSettings = Field(default_factory=WindowSettings)
    oms: OmsSettings
    memory: MemorySettings = Field(default_factory=MemorySettings)
    dead_letters: DeadLetterSettings = Field(default_factory=DeadLetterSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @property
    def has_lines(self) -> bool:
        """Whether an event may have several changes, so that each is named by its line."""
        return self.events.items is not None or self.avro.framing == "container"

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        problems = combination_problems(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self
