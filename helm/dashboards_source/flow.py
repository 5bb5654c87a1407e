"""The flow of changes: how many are read, coalesced, accepted and rejected, and how old they get."""

from grafana_foundation_sdk.models import units

from helm.dashboards_source.parts import (
    BLUE,
    CHANGES_PER_SECOND,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    AnyPanel,
    Description,
    Query,
    graph,
    limit,
    of,
    quantile,
    rate,
)

TITLE = "Flow: changes from Kafka to the OMS"

_AGE = "inventory_refresh_oldest_change_age_seconds"


def panels() -> list[AnyPanel]:
    """Throughput first, then the delay."""
    return [_changes(), _coalesced(), _dead_letters(), _delay(), _age()]


def _changes() -> AnyPanel:
    return graph(
        "Changes per second",
        Description(
            "Changes read from Kafka, and changes accepted (covered by a jobID). Accepted comes in steps, "
            "because changes wait in windows.",
            "Read drops to 0 while the lag grows: reading is paused (row Kafka), or members have no "
            "partitions. Accepted stays below read: the OMS does not keep up. Both 0 and no lag: upstream "
            "publishes nothing; ask there.",
        ),
        Query(f"sum({rate('inventory_refresh_messages_read_total')})", "read", BLUE),
        Query(f"sum({rate('inventory_refresh_changes_accepted_total')})", "accepted", GREEN),
        Query(f"sum({rate('inventory_refresh_changes_dead_lettered_total')})", "rejected", RED),
        Query(f"sum({rate('inventory_refresh_tombstones_total')})", "tombstones", YELLOW),
        Query(f"sum({rate('inventory_refresh_events_skipped_total')})", "skipped", PURPLE),
        unit=CHANGES_PER_SECOND,
    )


def _coalesced() -> AnyPanel:
    return graph(
        "Coalesced changes",
        Description(
            "The share of accepted changes that were superseded by a newer one of their item while they "
            "waited: work that the OMS was spared.",
            "It cannot look bad. Near 0 means that items rarely change twice within window.max_age; a longer "
            "max_age would save little.",
        ),
        Query(
            f"sum({rate('inventory_refresh_changes_coalesced_total')})"
            f" / (sum({rate('inventory_refresh_changes_accepted_total')}) > 0)",
            "coalesced",
            PURPLE,
        ),
        unit=units.PercentUnit,
        share=True,
    )


def _dead_letters() -> AnyPanel:
    return graph(
        "Dead letters by reason",
        Description(
            "Changes per second that can never be sent, or that the OMS did not apply, by reason "
            "(docs/dead-letters.md explains each).",
            "corrupt, unknown_schema, no_... and similar: the producer sends bad events; inform its owners. "
            "refused_by_oms: the OMS does not know the item or the location. job_failed: see Failed jobs. If "
            "more than dead_letters.max_ratio of all changes are bad, the service stops with exit code 5.",
            alerts=(
                "InventoryRefreshChangesRejected",
                "InventoryRefreshManyChangesRejected",
            ),
        ),
        Query(f"sum by (reason) ({rate('inventory_refresh_changes_dead_lettered_total')}) > 0", "{{reason}}"),
        unit=CHANGES_PER_SECOND,
        stacked=True,
        colors={"job_failed": RED, "refused_by_oms": ORANGE},
    )


def _delay() -> AnyPanel:
    published = 'since="published"'
    return graph(
        "From Kafka to the OMS",
        Description(
            "Age of the oldest change of a request when its jobID came, counted from its publication to "
            "Kafka. Quiet locations wait for window.max_age (dashed); busy ones are sent as soon as they fill "
            "a request.",
            "Far above the line: there is or was a backlog (lag), or the OMS was unavailable (breaker). Each "
            "change in it is a count that a store got too late.",
        ),
        Query(quantile(0.5, _AGE, published), "median", GREEN),
        Query(quantile(0.95, _AGE, published), "95 %", YELLOW),
        Query(quantile(0.99, _AGE, published), "99 %", ORANGE),
        limit(f"max({of('inventory_refresh_window_max_age_seconds')})", "max_age"),
        unit=units.Seconds,
        width=12,
    )


def _age() -> AnyPanel:
    return graph(
        "Where the age comes from",
        Description(
            "95 % of the oldest changes of requests were younger than this when the jobID came, counted since "
            "they occurred (by the time in the event), were published to Kafka, and were read by this "
            "service. The gaps between the lines show where the time was spent. The scale ends at one day.",
            "occurred far above published: the producer is late, or the times in its events are wrong; ask "
            "there. published far above read: a backlog in Kafka. read above max_age: this service or the "
            "OMS.",
        ),
        *(
            Query(quantile(0.95, _AGE, f'since="{since}"'), f"since {since}", color)
            for since, color in (("occurred", PURPLE), ("published", BLUE), ("read", GREEN))
        ),
        unit=units.Seconds,
        width=12,
        logarithmic=True,
    )
