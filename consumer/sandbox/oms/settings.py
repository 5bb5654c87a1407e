"""Options of the OMS sandbox: its keys, limits, costs, and the address that it listens on.

The defaults are those of the real OMS where its documentation gives a number. The cost of a job is not documented: the
defaults of ``seconds_per_chunk`` and ``seconds_per_job`` are round numbers at which the queue can be watched.
"""

from enum import StrEnum
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from consumer.sandbox.oms.faults.base import RULES_MAX
from consumer.sandbox.oms.faults.outcome import JobIdStyle
from consumer.sandbox.oms.faults.rules import FaultRule, Refuse

SPECIFIC_KEY: Final = "sandbox-specific"
SPECIFIC_SECRET: Final = "sandbox-specific-secret"  # noqa: S105 - the sandbox's documented default, which protects nothing
V5_KEY: Final = "sandbox-v5"
V5_SECRET: Final = "sandbox-v5-secret"  # noqa: S105 - the sandbox's documented default, which protects nothing
UNIFIED_KEY: Final = "sandbox-unified"
UNIFIED_SECRET: Final = "sandbox-unified-secret"  # noqa: S105 - the sandbox's documented default, which protects nothing
TENANT: Final = 10_001


class Package(StrEnum):
    """The API package of a key. A token of one package is refused with 403 at the paths of the others."""

    SPECIFIC = "inventory-specific"
    V5 = "inventory-v5"
    UNIFIED = "unified-commerce"


CLASSIC: Final = (Package.SPECIFIC, Package.V5)
"""The packages that share the older token endpoint."""


class SandboxSettings(BaseModel):
    """All options of a sandbox; they are fixed while it runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535)
    """0 takes a free port; ``SandboxServer.url`` then contains it."""

    specific_key: str = Field(default=SPECIFIC_KEY, min_length=1)
    specific_secret: SecretStr = Field(default=SecretStr(SPECIFIC_SECRET), min_length=1)
    v5_key: str = Field(default=V5_KEY, min_length=1)
    v5_secret: SecretStr = Field(default=SecretStr(V5_SECRET), min_length=1)
    unified_key: str = Field(default=UNIFIED_KEY, min_length=1)
    """The ``client_id`` of Unified Commerce."""
    unified_secret: SecretStr = Field(default=SecretStr(UNIFIED_SECRET), min_length=1)
    tenant: int = Field(default=TENANT, ge=1)
    """The only tenant of Unified Commerce; every call except the token call must name it."""
    token_seconds: int = Field(default=3_600, ge=1, le=86_400)
    """How long a token is valid."""
    tokens_max: int = Field(default=10_000, ge=1)
    """Tokens that are valid at once; one more revokes the oldest."""

    max_items: int = Field(default=12_000, ge=1)
    """Items in one request; more are answered 400."""
    sync_items_max: int = Field(default=25, ge=0, le=1_000)
    """Items up to which a request of smart refresh is applied at once; a larger one becomes a job."""
    chunk_items: int = Field(default=3_000, ge=1)
    """Items processed at once: a partly filled chunk costs as much as a full one."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1_024)
    """Bytes of one request's body; more are answered 413. 12,000 items with every field and 63 attributes each fit."""
    validation: Literal["full", "count"] = "full"
    """``full``: every rule is checked, and quantities are applied. ``count``: items are counted by their ``quantity``
    keys, not parsed, and no quantities are held, so that a benchmark measures the consumer and not the sandbox. Only
    requests that are applied at once, which are small, are checked and held all the same."""

    seconds_per_chunk: float = Field(default=1.0, ge=0, le=3_600, allow_inf_nan=False)
    """OMS seconds for each chunk, full or not."""
    seconds_per_job: float = Field(default=0.5, ge=0, le=3_600, allow_inf_nan=False)
    """OMS seconds for each job, in addition to its chunks."""
    time_scale: float = Field(default=1.0, ge=0, le=1_000, allow_inf_nan=False)
    """Real seconds per OMS second: with 0 jobs finish at once; reported costs stay in OMS seconds."""
    first_job_id: int = Field(default=1_234_567, ge=1, le=2**53 - 1)
    job_id_style: JobIdStyle = "integer"
    """The jobID in an answer: 1234567, 01234567 (the documentation's example, which is not JSON), "1234567", 1234567.0
    or " 1234567 "."""

    queued_items_max: int = Field(default=1_000_000, ge=1)
    """Items of unfinished jobs (about 0.4 kB each); a request beyond it is answered 503 with code 5001."""
    held_items_max: int = Field(default=2_000_000, ge=1)
    """Items held (about 0.4 kB each); a job that would exceed it ends as FAILED."""
    locations_max: int = Field(default=100_000, ge=1)
    """Known locations; a request for one more is answered 503 with code 5001."""
    applied_kept_max: int = Field(default=100_000, ge=0)
    """Applied items (about 0.2 kB each) of which time and request are kept."""
    jobs_kept_max: int = Field(default=100_000, ge=1)
    """Finished jobs that are kept for get-job and the page; totals include all jobs."""

    faults: tuple[FaultRule, ...] = Field(default=(), max_length=RULES_MAX)
    """Fault rules from the start on; docs/sandbox.md lists them."""
    fault_seed: int = 1
    """With the same seed, the same calls in the same order meet the same faults."""

    @model_validator(mode="after")
    def _can_refuse(self) -> Self:
        if self.validation == "count" and any(isinstance(fault, Refuse) for fault in self.faults):
            raise ValueError("items that are only counted cannot be refused: leave out refuse, or check all items")
        return self
