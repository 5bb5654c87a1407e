"""How changes pass through: how many, how many are spared, how many are rejected, and how old they are at the end."""

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
    Query,
    Told,
    graph,
    limit,
    of,
    quantile,
    rate,
)

TITLE = "Flow: changes from Kafka to the OMS"

_AGE = "inventory_refresh_oldest_change_age_seconds"


def panels() -> list[AnyPanel]:
    """What comes in, what leaves, and how long that takes."""
    return [_changes(), _superseded(), _dead_letters(), _delay(), _age()]


def _changes() -> AnyPanel:
    return graph(
        "Changes a second",
        Told(
            "Changes read from Kafka, and accepted: covered by a jobID. Accepted comes in steps, as windows gather.",
            "Read falls to 0 while the lag grows: reading is paused (row Kafka) or the group is without partitions. "
            "Accepted stays below read for long: the OMS does not keep up. Both 0 and no lag: nothing comes from "
            "upstream, ask there.",
        ),
        Query(f"sum({rate('inventory_refresh_messages_read_total')})", "read", BLUE),
        Query(f"sum({rate('inventory_refresh_changes_accepted_total')})", "accepted", GREEN),
        Query(f"sum({rate('inventory_refresh_changes_dead_lettered_total')})", "rejected", RED),
        Query(f"sum({rate('inventory_refresh_tombstones_total')})", "tombstones", YELLOW),
        unit=CHANGES_PER_SECOND,
    )


def _superseded() -> AnyPanel:
    return graph(
        "Changes that needed no item of their own",
        Told(
            "The share of accepted changes that a newer one of their item superseded while they waited: work that "
            "the OMS was spared.",
            "It can not be bad. Near 0 means that items seldom change twice within window.max_age; then a longer "
            "max_age spares nothing.",
        ),
        Query(
            f"sum({rate('inventory_refresh_changes_coalesced_total')})"
            f" / (sum({rate('inventory_refresh_changes_accepted_total')}) > 0)",
            "superseded",
            PURPLE,
        ),
        unit=units.PercentUnit,
        share=True,
    )


def _dead_letters() -> AnyPanel:
    return graph(
        "Dead letters by reason",
        Told(
            "Changes a second that can never be sent, or that the OMS did not apply, by reason "
            "(docs/dead-letters.md explains each).",
            "corrupt, unknown_schema, no_... and the like: the producer sends bad events, tell its owners. "
            "refused_by_oms: the OMS does not know the item or the location. job_failed: see Failed jobs. When more "
            "than dead_letters.max_ratio of all changes are bad, the service stops with exit code 5.",
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
        Told(
            "How old the oldest change of a request was when its jobID came, counted from its publication to Kafka. "
            "Quiet locations wait for window.max_age (dashed), busy ones leave as soon as they fill a request.",
            "Far above the line: there is, or was, a backlog (lag), or the OMS was not well (breaker). Each change of "
            "it is a count that a store saw too late.",
        ),
        Query(quantile(0.5, _AGE, published), "half of the requests", GREEN),
        Query(quantile(0.95, _AGE, published), "95 %", YELLOW),
        Query(quantile(0.99, _AGE, published), "99 %", ORANGE),
        limit(f"max({of('inventory_refresh_window_max_age_seconds')})", "max_age"),
        unit=units.Seconds,
        width=12,
    )


def _age() -> AnyPanel:
    return graph(
        "Where the age comes from",
        Told(
            "95 % of the requests' oldest changes were younger than this when their jobID came: since they occurred "
            "(by the event's own time), since they were published to Kafka, since this service read them. The steps "
            "between the lines tell who took the time. A day is the most that it can tell.",
            "occurred far above published: the producer is late, or its events tell their time wrongly: ask there. "
            "published far above read: a backlog in Kafka. read above max_age: this service or the OMS.",
        ),
        *(
            Query(quantile(0.95, _AGE, f'since="{since}"'), f"since {since}", color)
            for since, color in (("occurred", PURPLE), ("published", BLUE), ("read", GREEN))
        ),
        unit=units.Seconds,
        width=12,
        logarithmic=True,
    )
