"""Settings of what shows the service: its HTTP server, metrics and log."""

from typing import Literal

from pydantic import Field

from consumer.settings.section import MemberList, Section, Text


class HttpSettings(Section):
    """HTTP server: status page, metrics and probes."""

    host: Text | None = Field(
        default=None,
        description="Address to listen on. If unset, all addresses: IPv6 and IPv4, or IPv4 alone where IPv6 is off.",
    )
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on; 0 picks a free one.")
    members: MemberList = Field(
        default_factory=list,
        max_length=100,
        description="Status pages of all members of the group, this one included, each as `host:port`: a name whose "
        "addresses are those of all members, as a headless Service of Kubernetes has it (the chart sets its own), or a "
        "list. The status page links them, and `inventory-refresh status` shows them.",
    )


class MetricsSettings(Section):
    """Optional metrics."""

    locations_max: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Number of locations with metrics of their own (about six series each), first come, first served; "
        "0: none. A scrape takes about 0.1 s longer per 1,000 locations.",
    )


class LogSettings(Section):
    """Log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    format: Literal["auto", "console", "json"] = Field(
        default="auto",
        description="`json`: one object per line; `console`: human-readable; `auto`: console on a terminal, else json.",
    )
