"""The processes: health, resources and versions."""

from grafana_foundation_sdk.models import units

from consumer.app import STALLED_SECONDS
from helm.dashboards_source.parts import ORANGE, AnyPanel, Description, Query, graph, limit, listing, of, rate

TITLE = "Process: health, memory and CPU of each member"


def panels() -> list[AnyPanel]:
    """By pod, so that one that differs from the others stands out."""
    return [
        _ready(),
        _heartbeat(),
        _memory(),
        _pending_bytes(),
        _cpu(),
        _files(),
        _bytes_sent(),
        _tokens(),
        _versions(),
    ]


def _ready() -> AnyPanel:
    return graph(
        "Ready by member",
        Description(
            "1 while /readyz of the member returns 200.",
            "A member that drops to 0 has lost its partitions or needs an operator; its log says which. A "
            "line that ends: that process has ended.",
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
        "Time since the last heartbeat",
        Description(
            "How long ago the loop of each member sent its last heartbeat, at the time of the scrape. It "
            "sends one at least every second or so.",
            "At the dashed line /healthz answers 503 and Kubernetes restarts the process, which is safe. If "
            "it happens again, save the log and a stack dump first (py-spy): it is a bug.",
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
        Description(
            "What each member uses of its container's memory, and how much of it the Kafka client has fetched "
            "ahead. Above 85 % of the dashed line, the limit, it makes room instead of reading.",
            "Close to the limit: set memory.budget to auto or lower it, or raise the limit. "
            "Steadily growing while the memory of pending changes does not: a leak; save the numbers and report it.",
            alerts=("InventoryRefreshMemoryShort",),
        ),
        Query(f"max by (pod) ({of('inventory_refresh_memory_used_bytes')})", "{{pod}}"),
        Query(f"sum by (pod) ({of('inventory_refresh_kafka_fetch_queue_bytes')})", "{{pod}}: fetched"),
        limit(f"max({of('inventory_refresh_memory_limit_bytes')})", "limit"),
        unit=units.BytesIEC,
    )


def _pending_bytes() -> AnyPanel:
    return graph(
        "Memory of pending changes",
        Description(
            "Memory of the changes that each member has read and that have no jobID yet. At the dashed line, half of "
            "memory.budget, it stops reading until there is room.",
            "At the line: changes in memory must be sent first. See Breaker, Answers by outcome and the "
            "requests in flight. No change is lost, the rest waits in Kafka. Watch the retention of the "
            "topic.",
            alerts=("InventoryRefreshBackpressure",),
        ),
        Query(f"sum by (pod) ({of('inventory_refresh_pending_bytes')})", "{{pod}}"),
        limit(f"max({of('inventory_refresh_max_pending_bytes')})", "max_pending_bytes"),
        unit=units.BytesIEC,
    )


def _cpu() -> AnyPanel:
    return graph(
        "CPU",
        Description(
            "CPU that each member uses, in cores.",
            "At the limit of the container while the lag grows: give it more CPU, or add members (up to one "
            "per partition).",
        ),
        Query(f"sum by (pod) ({rate('process_cpu_seconds_total')})", "{{pod}}"),
        unit=units.Short,
    )


def _files() -> AnyPanel:
    return graph(
        "Open files",
        Description(
            "Open files and sockets of each member, as a share of its limit.",
            "Steady growth is a leak; at 100 % no connection can be opened. Restart the process and report it.",
        ),
        Query(f"max by (pod) ({of('process_open_fds')} / {of('process_max_fds')})", "{{pod}}"),
        unit=units.PercentUnit,
    )


def _bytes_sent() -> AnyPanel:
    return graph(
        "Bytes to the OMS",
        Description(
            "Bytes per second of request bodies, of all members.",
            "Far more than the number of items explains: requests are sent again and again, see Answers by "
            "outcome in row OMS.",
        ),
        Query(f"sum({rate('inventory_refresh_request_bytes_total')})", "request bodies"),
        unit=units.BytesPerSecondIEC,
    )


def _tokens() -> AnyPanel:
    return graph(
        "Access tokens fetched",
        Description(
            "Access tokens that members got from the OMS in each interval, including renewals.",
            "Many all the time: the OMS revokes tokens early, or they live for seconds only. None for longer "
            "than the lifetime of a token, while answers are unauthorised: see Sending.",
        ),
        Query(f"sum(increase({of('inventory_refresh_oms_tokens_fetched_total')}[$__rate_interval]))", "tokens", ORANGE),
        unit=units.Short,
        stacked=True,
        decimals=0,
    )


def _versions() -> AnyPanel:
    return listing(
        "Versions",
        Description(
            "Version of each member, and of its main components.",
            "Different versions for longer than a roll-out takes: the roll-out is stuck, see Ready by member.",
        ),
        {"members": f"count by (version, python, librdkafka, polars) ({of('inventory_refresh_build_info')})"},
        labels={"version": "version", "python": "Python", "librdkafka": "librdkafka", "polars": "polars"},
        width=8,
        height=8,
    )
