"""The consumer group of the release, and the connections of its clients to the brokers."""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from helm.dashboards_source.parts import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    AnyPanel,
    Description,
    Query,
    by_partition,
    graph,
    limit,
    listing,
    of,
    rate,
)

TITLE = "Kafka: partitions, commits and the connection to the brokers"

_YES_IN_COLOUR = (
    DynamicConfigValue(
        id_val="mappings",
        value=[
            {
                "type": "value",
                "options": {"0": {"text": "no", "index": 0}, "1": {"text": "yes", "color": ORANGE, "index": 1}},
            }
        ],
    ),
    DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
)


def panels() -> list[AnyPanel]:
    """Partitions first, then the group, then the connections."""
    return [
        _partitions(),
        _uncommitted(),
        _commits(),
        _rebalances(),
        _assigned(),
        _brokers(),
        _round_trip(),
        _queue(),
        _bytes(),
        _errors(),
    ]


def _partitions() -> AnyPanel:
    return listing(
        "Partitions",
        Description(
            "Offsets of each partition: committed (where a restart resumes), committable (lowest offset "
            "without a jobID), next (read up to there), end of the log; lag is from committable to end.",
            "committable does not move while next does: a location in it cannot be sent, see Uncommitted "
            "offsets by partition. recovering: the previous owner had read further; nothing of the partition "
            "is sent until that is read again, usually seconds. paused for long: see Pending changes and "
            "kafka.max_uncommitted_offsets. A partition is missing: no member reads it.",
        ),
        {
            "committed": by_partition("inventory_refresh_partition_committed_offset"),
            "committable": by_partition("inventory_refresh_partition_committable_offset"),
            "next": by_partition("inventory_refresh_partition_next_offset"),
            "end": by_partition("inventory_refresh_partition_end_offset"),
            "lag": by_partition("inventory_refresh_partition_lag_offsets"),
            "uncommitted": by_partition("inventory_refresh_partition_uncommitted_offsets"),
            "paused": by_partition("inventory_refresh_partition_paused"),
            "recovering": by_partition("inventory_refresh_partition_recovering"),
        },
        labels={"topic": "topic", "partition": "partition"},
        overrides={"paused": _YES_IN_COLOUR, "recovering": _YES_IN_COLOUR},
        sort_by="lag",
    )


def _uncommitted() -> AnyPanel:
    return graph(
        "Uncommitted offsets by partition",
        Description(
            "How far each partition was read past its committable offset: what a new owner must read again. "
            "At the dashed line (kafka.max_uncommitted_offsets) the partition is paused.",
            "One partition grows alone: a location in it cannot be sent and blocks the offset. Find it in the "
            "log (held, bisection), or on the dashboard for one location. If this lasts longer than the "
            "retention of the topic, changes are lost.",
            alerts=("InventoryRefreshUncommittedOffsetsHigh",),
        ),
        Query(by_partition("inventory_refresh_partition_uncommitted_offsets"), "{{topic}} {{partition}}"),
        limit(f"max({of('inventory_refresh_max_uncommitted_offsets')})", "max_uncommitted_offsets"),
        unit=units.Short,
    )


def _commits() -> AnyPanel:
    return graph(
        "Commits per second",
        Description(
            "Commits that the broker confirmed, and those it refused; fenced: the member is out of its group.",
            "Refused and fenced now and then: a member was too slow or cut off, and has rejoined; it sends "
            "nothing in between. Again and again: see the heartbeat of the loop, and session.timeout.ms. No "
            "commits while changes are accepted: the broker does not answer.",
            alerts=("InventoryRefreshCommitsRefused",),
        ),
        Query(f"sum({rate('inventory_refresh_commits_total')})", "confirmed", GREEN),
        Query(f"sum by (fenced) ({rate('inventory_refresh_commits_refused_total')})", "refused, fenced: {{fenced}}"),
        unit=units.OpsPerSecond,
        colors={"refused, fenced: yes": RED, "refused, fenced: no": ORANGE},
    )


def _rebalances() -> AnyPanel:
    lost = "inventory_refresh_committed_offset_out_of_range_total"
    return graph(
        "Rebalances",
        Description(
            "Partitions assigned, revoked and lost; requests that were not answered before a revoke ended; and "
            "partitions whose committed offset was outside the log. Each bar covers one interval.",
            "Members join and leave without a deployment: they are killed or too slow (see Process). lost: a "
            "member was removed from the group without a revoke. Out of range: retention deleted changes; "
            "compare the counts of the stores with their source.",
            alerts=(
                "InventoryRefreshPartitionsLost",
                "InventoryRefreshChangesLost",
            ),
        ),
        Query(f"sum by (kind) (increase({of('inventory_refresh_rebalances_total')}[$__rate_interval]))", "{{kind}}"),
        Query(
            f"sum(increase({of('inventory_refresh_requests_unanswered_total')}[$__rate_interval]))",
            "unanswered requests",
            PURPLE,
        ),
        Query(f"sum(increase({of(lost)}[$__rate_interval]))", "offset out of range", RED),
        unit=units.Short,
        stacked=True,
        decimals=0,
        colors={"assigned": GREEN, "revoked": BLUE, "lost": ORANGE},
    )


def _assigned() -> AnyPanel:
    return graph(
        "Assigned and paused partitions",
        Description(
            "Partitions that members read, how many of them are paused or recovering, members whose decoding waits "
            "for something, such as the schema registry, and members of which a partition waits for a schema.",
            "paused for long: pending changes or uncommitted offsets are at their limit. Decoding waits: the "
            "schema registry does not answer. Waiting for a schema: the registry does not know it yet. Fewer "
            "assigned than the topic has: a member is missing.",
            alerts=("InventoryRefreshSchemaRegistryUnavailable",),
        ),
        Query(f"sum({of('inventory_refresh_assigned_partitions')})", "assigned", BLUE),
        Query(f"sum({by_partition('inventory_refresh_partition_paused')})", "paused", ORANGE),
        Query(f"sum({by_partition('inventory_refresh_partition_recovering')})", "recovering", YELLOW),
        Query(f"sum({of('inventory_refresh_decoding_blocked')})", "members waiting to decode", RED),
        Query(f"sum({of('inventory_refresh_parked_messages')} > bool 0)", "members waiting for a schema", PURPLE),
        unit=units.Short,
        decimals=0,
    )


def _brokers() -> AnyPanel:
    return graph(
        "Connected brokers",
        Description(
            "Connections of each member to brokers that are up, including the bootstrap connection.",
            "0: this member reaches no broker. Fewer than usual: brokers are down or restarting. See Errors "
            "and reconnects.",
            alerts=("InventoryRefreshKafkaUnreachable",),
        ),
        Query(f"max by (pod) ({of('inventory_refresh_kafka_brokers_up')})", "{{pod}}"),
        unit=units.Short,
        decimals=0,
    )


def _round_trip() -> AnyPanel:
    return graph(
        "Broker round-trip time",
        Description(
            "How long requests to each broker take, of the slowest member: median and 99th percentile.",
            "One broker alone: it is overloaded; inform the operators of Kafka. All of them: the network, or "
            "this process has too little CPU. Fetches wait at the broker while there is nothing new, which is "
            "normal.",
        ),
        Query(
            f"max by (broker, quantile) ({of('inventory_refresh_kafka_broker_rtt_seconds')})",
            "{{broker}} {{quantile}}",
        ),
        unit=units.Seconds,
    )


def _queue() -> AnyPanel:
    return graph(
        "Fetched messages and unconfirmed dead letters",
        Description(
            "Messages that the Kafka client of each member has fetched but the service has not polled yet; "
            "and dead letters that the broker has not confirmed yet, which block their offsets.",
            "Many fetched for long: this service is the bottleneck (CPU, or the OMS, see Pending changes). "
            "None while there is lag: Kafka or the network is. Dead letters unconfirmed for long: the "
            "dead-letter topic is missing, full or not writable, see the log.",
            alerts=("InventoryRefreshDeadLettersUnconfirmed",),
        ),
        Query(f"sum by (pod) ({of('inventory_refresh_kafka_fetch_queue_messages')})", "{{pod}}: fetched"),
        Query(f"sum({of('inventory_refresh_unconfirmed_dead_letters')})", "dead letters unconfirmed", RED),
        unit=units.Short,
    )


def _bytes() -> AnyPanel:
    return graph(
        "Bytes from and to the brokers",
        Description(
            "Bytes per second on the connections to the brokers, compressed as on the wire.",
            "Many received while nothing is read: the client fetches the same data again, see Errors and reconnects.",
        ),
        Query(f"sum({rate('inventory_refresh_kafka_received_bytes_total')})", "received", BLUE),
        Query(f"sum({rate('inventory_refresh_kafka_sent_bytes_total')})", "sent", GREEN),
        unit=units.BytesPerSecondIEC,
    )


def _errors() -> AnyPanel:
    return graph(
        "Errors and reconnects",
        Description(
            "Requests to brokers that failed or timed out, and reconnects, per second.",
            "A few when a broker restarts or idle connections are closed are normal. Steady: there is a "
            "problem with the network or a broker; see librdkafka's messages in the log.",
        ),
        Query(f"sum({rate('inventory_refresh_kafka_request_errors_total')})", "failed requests", RED),
        Query(f"sum({rate('inventory_refresh_kafka_reconnects_total')})", "reconnects", ORANGE),
        unit=units.OpsPerSecond,
    )
