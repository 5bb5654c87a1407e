"""How this release stands in its consumer group, and how its client stands with the brokers."""

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
    Query,
    Told,
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
    """Each partition first, then the group, then the connections."""
    return [
        _partitions(),
        _unaccepted(),
        _commits(),
        _rebalances(),
        _not_read(),
        _brokers(),
        _round_trip(),
        _queue(),
        _bytes(),
        _errors(),
    ]


def _partitions() -> AnyPanel:
    return listing(
        "Where each partition stands",
        Told(
            "Offsets of each partition now: committed (a restart goes on there), watermark (the lowest that no jobID "
            "covers), next (read up to there), end of the log; lag is from watermark to end.",
            "committable does not move while next does: a location in it cannot be sent, see Uncommitted offsets. "
            "recovering: the previous owner had read further; nothing leaves until that is read again, usually "
            "seconds. paused for long: see Pending changes and kafka.max_uncommitted_offsets. A partition is "
            "missing: no member reads it.",
        ),
        {
            "committed": by_partition("inventory_refresh_partition_committed_offset"),
            "committable": by_partition("inventory_refresh_partition_committable_offset"),
            "next": by_partition("inventory_refresh_partition_next_offset"),
            "end": by_partition("inventory_refresh_partition_end_offset"),
            "lag": by_partition("inventory_refresh_partition_lag_offsets"),
            "unaccepted": by_partition("inventory_refresh_partition_uncommitted_offsets"),
            "paused": by_partition("inventory_refresh_partition_paused"),
            "gathering": by_partition("inventory_refresh_partition_recovering"),
        },
        labels={"topic": "topic", "partition": "partition"},
        overrides={"paused": _YES_IN_COLOUR, "gathering": _YES_IN_COLOUR},
        sort_by="lag",
    )


def _unaccepted() -> AnyPanel:
    return graph(
        "Unaccepted offsets by partition",
        Told(
            "How far each partition was read past its watermark: what a successor must read again. At the dashed line "
            "(kafka.max_uncommitted_offsets) the partition is paused.",
            "One partition grows alone: a location in it can not be sent, and holds its offset back. Find it in the "
            "log (held, narrowing), or on the dashboard One location. Retention of the topic must be longer than this "
            "lasts, or changes are lost.",
            alerts=("InventoryRefreshUncommittedOffsetsGrowing",),
        ),
        Query(by_partition("inventory_refresh_partition_uncommitted_offsets"), "{{topic}} {{partition}}"),
        limit(f"max({of('inventory_refresh_max_uncommitted_offsets')})", "max_uncommitted_offsets"),
        unit=units.Short,
    )


def _commits() -> AnyPanel:
    return graph(
        "Commits a second",
        Told(
            "Commits that the broker has confirmed, and those it refused; fenced: the member is out of its group.",
            "Refused and fenced now and then: a member was too slow or was cut off, and has rejoined; it sends nothing "
            "meanwhile. Again and again: see the loop's heartbeat, and session.timeout.ms. No commit while changes are "
            "accepted: the broker does not answer.",
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
        "Partitions come and go",
        Told(
            "How often members were handed partitions, gave them up, or lost them; requests still in flight then; and "
            "partitions whose committed offset was outside the log. Each bar is what happened in its time.",
            "Members join and leave without a deployment: they are killed or too slow (see Process). lost: a member "
            "was out of its group without knowing. Out of range: changes were lost to retention, compare the counts "
            "of the stores with their source.",
            alerts=(
                "InventoryRefreshPartitionsLost",
                "InventoryRefreshChangesLost",
            ),
        ),
        Query(f"sum by (kind) (increase({of('inventory_refresh_rebalances_total')}[$__rate_interval]))", "{{kind}}"),
        Query(
            f"sum(increase({of('inventory_refresh_requests_unanswered_total')}[$__rate_interval]))",
            "requests in flight then",
            PURPLE,
        ),
        Query(f"sum(increase({of(lost)}[$__rate_interval]))", "offset out of range", RED),
        unit=units.Short,
        stacked=True,
        decimals=0,
        colors={"assigned": GREEN, "revoked": BLUE, "lost": ORANGE},
    )


def _not_read() -> AnyPanel:
    return graph(
        "Partitions, and those that do not move",
        Told(
            "Partitions that members read, those of them that are paused or still gathering, and members that wait for "
            "something outside before they can decode, such as the schema registry.",
            "paused for long: memory or distance is at its limit (Pending changes, Unaccepted offsets). Decoding "
            "waits: the schema registry does not answer. Fewer assigned than the topic has: a member is missing.",
            alerts=("InventoryRefreshDecodingWaits",),
        ),
        Query(f"sum({of('inventory_refresh_assigned_partitions')})", "assigned", BLUE),
        Query(f"sum({by_partition('inventory_refresh_partition_paused')})", "paused", ORANGE),
        Query(f"sum({by_partition('inventory_refresh_partition_recovering')})", "gathering", YELLOW),
        Query(f"sum({of('inventory_refresh_decoding_blocked')})", "members whose decoding waits", RED),
        unit=units.Short,
        decimals=0,
    )


def _brokers() -> AnyPanel:
    return graph(
        "Broker connections that are up",
        Told(
            "Connections of each member to brokers that are up, the one of the first contact included.",
            "0: this member sees no broker. Fewer than usual: brokers are down or being restarted. See errors and "
            "reconnects beside it.",
            alerts=("InventoryRefreshKafkaUnreachable",),
        ),
        Query(f"max by (pod) ({of('inventory_refresh_kafka_brokers_up')})", "{{pod}}"),
        unit=units.Short,
        decimals=0,
    )


def _round_trip() -> AnyPanel:
    return graph(
        "Round trip to the brokers",
        Told(
            "How long requests to each broker take, the slowest member's: half of them, and 99 %.",
            "One broker alone: it is overloaded, tell those who run Kafka. All of them: the network, or this "
            "process has too little CPU. Fetches wait at the broker when nothing is new, that is no fault.",
        ),
        Query(
            f"max by (broker, quantile) ({of('inventory_refresh_kafka_broker_rtt_seconds')})",
            "{{broker}} {{quantile}}",
        ),
        unit=units.Seconds,
    )


def _queue() -> AnyPanel:
    return graph(
        "Messages on their way from and to Kafka",
        Told(
            "Messages that each member's Kafka client has fetched ahead and the service has not taken yet; and dead "
            "letters that the broker has not confirmed yet, which hold the offsets back.",
            "Much fetched for long: this service is the slow part (CPU, or the OMS, see Pending changes). Nothing "
            "while there is lag: Kafka or the network is. Dead letters unconfirmed for long: the dead-letter topic "
            "is missing, full or not writable, see the log.",
            alerts=("InventoryRefreshDeadLettersUnconfirmed",),
        ),
        Query(f"sum by (pod) ({of('inventory_refresh_kafka_fetch_queue_messages')})", "{{pod}}: fetched ahead"),
        Query(f"sum({of('inventory_refresh_unconfirmed_dead_letters')})", "dead letters unconfirmed", RED),
        unit=units.Short,
    )


def _bytes() -> AnyPanel:
    return graph(
        "Bytes from and to the brokers",
        Told(
            "Bytes a second on the connections to the brokers, compressed as they travel; and bytes fetched ahead.",
            "Much received while nothing is read: the client fetches the same again, see errors.",
        ),
        Query(f"sum({rate('inventory_refresh_kafka_received_bytes_total')})", "received", BLUE),
        Query(f"sum({rate('inventory_refresh_kafka_sent_bytes_total')})", "sent", GREEN),
        unit=units.BytesPerSecondIEC,
    )


def _errors() -> AnyPanel:
    return graph(
        "Errors and reconnects",
        Told(
            "Requests to brokers that failed or timed out, and connections made anew, a second.",
            "A few at a broker's restart or when idle connections are closed: usual. Steady: the network or a "
            "broker is unwell; the log has librdkafka's own words.",
        ),
        Query(f"sum({rate('inventory_refresh_kafka_request_errors_total')})", "failed requests", RED),
        Query(f"sum({rate('inventory_refresh_kafka_reconnects_total')})", "reconnects", ORANGE),
        unit=units.OpsPerSecond,
    )
