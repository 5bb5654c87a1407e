"""Options of the OMS sandbox: its keys, limits, costs, and where it listens.

The defaults are those of the real OMS where its documentation gives a number. What a job costs there is not documented:
those two are round numbers that let a person watch the queue work.
"""

from enum import StrEnum
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from consumer.sandbox.oms.faults.outcome import JobIdStyle
from consumer.sandbox.oms.faults.rules import RULES_MAX, FaultRule, Refuse

SPECIFIC_KEY: Final = "sandbox-specific"
SPECIFIC_SECRET: Final = "sandbox-specific-secret"  # noqa: S105 - the sandbox's documented default, it guards nothing
V5_KEY: Final = "sandbox-v5"
V5_SECRET: Final = "sandbox-v5-secret"  # noqa: S105 - the sandbox's documented default, it guards nothing
UNIFIED_KEY: Final = "sandbox-unified"
UNIFIED_SECRET: Final = "sandbox-unified-secret"  # noqa: S105 - the sandbox's documented default, it guards nothing
TENANT: Final = 10_001


class Package(StrEnum):
    """What an API key is for. A token of one package is refused with 403 at the paths of the others."""

    SPECIFIC = "inventory-specific"
    V5 = "inventory-v5"
    UNIFIED = "unified-commerce"


CLASSIC: Final = (Package.SPECIFIC, Package.V5)
"""The packages that share the older token endpoint."""


class SandboxSettings(BaseModel):
    """Everything that can be chosen about a sandbox. Nothing in it can be changed while it runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535)
    """0 takes a free one; ``SandboxServer.url`` tells which."""

    specific_key: str = Field(default=SPECIFIC_KEY, min_length=1)
    specific_secret: SecretStr = Field(default=SecretStr(SPECIFIC_SECRET), min_length=1)
    v5_key: str = Field(default=V5_KEY, min_length=1)
    v5_secret: SecretStr = Field(default=SecretStr(V5_SECRET), min_length=1)
    unified_key: str = Field(default=UNIFIED_KEY, min_length=1)
    """The ``client_id`` of Unified Commerce."""
    unified_secret: SecretStr = Field(default=SecretStr(UNIFIED_SECRET), min_length=1)
    tenant: int = Field(default=TENANT, ge=1)
    """The only tenant of Unified Commerce, named in each of its calls but that for a token."""
    token_seconds: int = Field(default=3_600, ge=1, le=86_400)
    """How long a token is good for."""
    tokens_max: int = Field(default=10_000, ge=1)
    """Tokens remembered; the oldest is forgotten (and so refused) when one more is issued."""

    max_items: int = Field(default=12_000, ge=1)
    """Items in one request; more are answered 400."""
    chunk_items: int = Field(default=3_000, ge=1)
    """Items worked off at once: a begun chunk costs as much as a full one."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1_024)
    """Bytes of one request's body; more are answered 413. 12,000 items with every field and 63 attributes each fit."""
    validation: Literal["full", "count"] = "full"
    """``full``: every rule is checked and counts are applied. ``count``: items are counted by their ``quantity`` keys,
    nothing else is looked at and no counts are held, so that a benchmark measures the consumer, not the sandbox."""

    seconds_per_chunk: float = Field(default=1.0, ge=0, le=3_600, allow_inf_nan=False)
    """OMS seconds a begun chunk costs."""
    seconds_per_job: float = Field(default=0.5, ge=0, le=3_600, allow_inf_nan=False)
    """OMS seconds a job costs besides its chunks."""
    time_scale: float = Field(default=1.0, ge=0, le=1_000, allow_inf_nan=False)
    """Real seconds for one OMS second: 0 works jobs off at once; reported costs stay OMS seconds."""
    first_job_id: int = Field(default=1_234_567, ge=1, le=2**53 - 1)
    job_id_style: JobIdStyle = "integer"
    """How an answer writes the jobID: 1234567, 01234567 (as the documentation's example, no JSON) or "1234567"."""

    queued_items_max: int = Field(default=1_000_000, ge=1)
    """Items of jobs not yet worked off (about 0.4 kB each); past it a request is answered 503 with code 5001."""
    held_items_max: int = Field(default=2_000_000, ge=1)
    """Items whose counts are held (about 0.4 kB each); a job that would pass it ends as FAILED."""
    locations_max: int = Field(default=100_000, ge=1)
    """Locations seen; a request for one more is answered 503 with code 5001."""
    jobs_kept_max: int = Field(default=100_000, ge=1)
    """Finished jobs that can still be looked at; totals go on counting."""

    faults: tuple[FaultRule, ...] = Field(default=(), max_length=RULES_MAX)
    """What goes wrong from the start on, by chance or by the clock; docs/sandbox.md has them all."""
    fault_seed: int = 1
    """The same seed and the same calls in the same order: the same faults."""

    @model_validator(mode="after")
    def _can_refuse(self) -> Self:
        if self.validation == "count" and any(isinstance(fault, Refuse) for fault in self.faults):
            raise ValueError("items that are only counted cannot be refused: leave out either refuse or counting")
        return self
