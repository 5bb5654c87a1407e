"""The processes themselves: whether they are alive, what they use, what runs."""

from grafana_foundation_sdk.models import units

from consumer.app import STALLED_SECONDS
from helm.dashboards_source.parts import ORANGE, AnyPanel, Query, Told, graph, limit, listing, of, rate

TITLE = "Process: life, memory and CPU of each member"


def panels() -> list[AnyPanel]:
    """By pod, as one that is unlike the others is what one looks for."""
    return [_ready(), _heartbeat(), _memory(), _cpu(), _files(), _bytes_sent(), _tokens(), _versions()]


def _ready() -> AnyPanel:
    return graph(
        "Ready, by member",
        Told(
            "1 while the member says on /readyz that it is ready.",
            "A member that falls to 0 has lost its partitions, or waits for a person: its log says which. A line that "
            "ends: that process has ended.",
            alerts=(
                "InventoryRefreshNotReady",
                "InventoryRefreshRestarting",
            ),
        ),
        Query(f"max by (pod) ({of('inventory_refresh_ready')})", "{{pod}}"),
        unit=units.Short,
        decimals=0,
        share=True,
    )


def _heartbeat() -> AnyPanel:
    return graph(
        "Since the loop's last sign of life",
        Told(
            "How long ago each member's loop turned last. It turns at least every second or so; the time between two "
            "scrapes is not in it.",
            "At the dashed line /healthz answers 503 and Kubernetes starts the process anew; that costs nothing but a "
            "second reading. If it comes again, save the log and a stack first (py-spy), it is a bug.",
            alerts=("InventoryRefreshLoopStalled",),
        ),
        Query(
            f"max by (pod) (timestamp({of('inventory_refresh_loop_heartbeat_timestamp_seconds')})"
            f" - {of('inventory_refresh_loop_heartbeat_timestamp_seconds')})",
            "{{pod}}",
        ),
        limit(f"vector({STALLED_SECONDS:g})", "stalled"),
        unit=units.Seconds,
    )


def _memory() -> AnyPanel:
    return graph(
        "Memory",
        Told(
            "Resident memory of each member, and what of it the Kafka client has fetched ahead. Pending changes "
            "take about 0.2 kB each, besides some hundred MB.",
            "Close to the container's limit: lower window.max_pending_changes, or raise the limit. Steadily growing "
            "while pending changes do not: a leak, save the numbers and report it.",
        ),
        Query(f"max by (pod) ({of('process_resident_memory_bytes')})", "{{pod}}"),
        Query(f"sum by (pod) ({of('inventory_refresh_kafka_fetch_queue_bytes')})", "{{pod}}: fetched ahead"),
        unit=units.BytesIEC,
    )


def _cpu() -> AnyPanel:
    return graph(
        "CPU",
        Told(
            "CPU that each member uses, in cores.",
            "At the container's limit while the lag grows: give it more, or more members (up to one a partition).",
        ),
        Query(f"sum by (pod) ({rate('process_cpu_seconds_total')})", "{{pod}}"),
        unit=units.Short,
    )


def _files() -> AnyPanel:
    return graph(
        "Open files",
        Told(
            "Open files and sockets of each member, as a share of what it may have.",
            "Growing without end is a leak; at 100 % nothing can be connected any more. Restart it and report it.",
        ),
        Query(f"max by (pod) ({of('process_open_fds')} / {of('process_max_fds')})", "{{pod}}"),
        unit=units.PercentUnit,
    )


def _bytes_sent() -> AnyPanel:
    return graph(
        "Bytes to the OMS",
        Told(
            "Bytes a second of request bodies, of all members together.",
            "Far more than the items warrant: requests are sent again and again, see Answers by outcome in row OMS.",
        ),
        Query(f"sum({rate('inventory_refresh_request_bytes_total')})", "request bodies"),
        unit=units.BytesPerSecondIEC,
    )


def _tokens() -> AnyPanel:
    return graph(
        "Access tokens fetched",
        Told(
            "How many access tokens members got from the OMS in each interval: the first, and each renewal.",
            "Many without end: the OMS takes tokens back before their time, or they live for seconds only. None for "
            "longer than a token lives, while answers are unauthorised: see Sending.",
        ),
        Query(f"sum(increase({of('inventory_refresh_oms_tokens_fetched_total')}[$__rate_interval]))", "tokens", ORANGE),
        unit=units.Short,
        stacked=True,
        decimals=0,
    )


def _versions() -> AnyPanel:
    return listing(
        "What runs",
        Told(
            "Each member's version, and those of its main parts.",
            "Different versions for longer than a roll-out takes: it hangs, see Ready.",
        ),
        {"members": f"count by (version, python, librdkafka, polars) ({of('inventory_refresh_build_info')})"},
        labels={"version": "version", "python": "Python", "librdkafka": "librdkafka", "polars": "polars"},
        width=16,
        height=8,
    )
