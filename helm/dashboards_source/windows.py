"""How well changes are gathered: few, full requests are what this service is for."""

from grafana_foundation_sdk.models import units

from helm.dashboards_source.parts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    REQUESTS_PER_SECOND,
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

TITLE = "Windows: gathering into few, full requests"

_ITEMS = "inventory_refresh_request_items"
_CHUNKS = "inventory_refresh_request_chunks_bucket"


def panels() -> list[AnyPanel]:
    """Sizes first, then what is waiting."""
    return [_items(), _chunks(), _room(), _reasons(), _pending(), _locations()]


def _items() -> AnyPanel:
    return graph(
        "Items in a request",
        Told(
            "How large requests are: half of them are smaller than the one line, the largest 5 % larger than the "
            "other. The dashed line is window.flush_items, at which a window is full.",
            "Small requests are no failure, but the OMS works them off one at a time: many of them fill its queue. "
            "A longer window.max_age makes them larger.",
        ),
        Query(f"sum({rate(f'{_ITEMS}_sum')}) / (sum({rate(f'{_ITEMS}_count')}) > 0)", "mean", BLUE),
        Query(quantile(0.5, _ITEMS), "half are smaller", GREEN),
        Query(quantile(0.95, _ITEMS), "95 % are smaller", YELLOW),
        limit(f"max({of('inventory_refresh_flush_items')})", "flush_items"),
        unit=units.Short,
    )


def _chunks() -> AnyPanel:
    def up_to(chunks: int) -> str:
        matcher = f'le=~"{chunks}|{chunks}.0"'
        return f"sum({rate(_CHUNKS, matcher)})"

    queries = [Query(up_to(1), "1 chunk", ORANGE)]
    for chunks, color in ((2, YELLOW), (3, BLUE), (4, GREEN)):
        queries.append(Query(f"{up_to(chunks)} - {up_to(chunks - 1)}", f"{chunks} chunks", color))
    return graph(
        "Chunks of a request",
        Told(
            "Requests a second by how many of the OMS's chunks (3,000 items) they take. Four is the most.",
            "Nearly all of one chunk while much changes: windows are sent before they fill. See why requests leave; "
            "a longer window.max_age fills them.",
        ),
        *queries,
        unit=REQUESTS_PER_SECOND,
        stacked=True,
    )


def _room() -> AnyPanel:
    wasted = f"sum({rate('inventory_refresh_chunk_items_wasted_total')})"
    sent = f"sum({rate('inventory_refresh_items_sent_total')})"
    return graph(
        "Room left in chunks",
        Told(
            "The share of the chunks sent that was empty: the OMS spends about as much on a chunk that is not full.",
            "High while only little changes is as it must be, since no change waits longer than window.max_age. High "
            "under load: many small locations; a longer window.max_age is the only remedy.",
        ),
        Query(f"{wasted} / ({wasted} + {sent} > 0)", "empty", ORANGE),
        unit=units.PercentUnit,
        share=True,
    )


def _reasons() -> AnyPanel:
    return graph(
        "Why requests leave",
        Told(
            "Requests a second by why they left: full (the window held flush_items), age (its oldest change was "
            "max_age old), narrowing (parts of a refused request, to find the items at fault).",
            "narrowing without end: the OMS refuses much. See Dead letters by reason, and answers in row OMS.",
        ),
        Query(f"sum by (reason) ({rate('inventory_refresh_requests_sent_total')})", "{{reason}}"),
        unit=REQUESTS_PER_SECOND,
        stacked=True,
        colors={"full": GREEN, "age": BLUE, "bisection": RED},
    )


def _pending() -> AnyPanel:
    return graph(
        "Pending changes",
        Told(
            "Changes that each member has read and that have no jobID yet. At the dashed line "
            "(window.max_pending_changes) it stops reading until there is room.",
            "At the line: what is in memory must leave first. See Breaker, Answers and the requests in flight. "
            "Nothing is lost, the rest waits in Kafka. Mind the topic's retention.",
            alerts=("InventoryRefreshMemoryBudgetReached",),
        ),
        Query(f"sum by (pod) ({of('inventory_refresh_pending_changes')})", "{{pod}}"),
        limit(f"max({of('inventory_refresh_max_pending_changes')})", "max_pending_changes"),
        unit=units.Short,
    )


def _locations() -> AnyPanel:
    return graph(
        "Locations that wait",
        Told(
            "Locations with pending changes; those that are held, as a request's outcome is not known; and those of "
            "which a refused request is being narrowed down.",
            "Held for long: outcomes stay unknown again and again. See Answers by outcome (unknown, unreadable): a "
            "gateway before the OMS may lose answers.",
        ),
        Query(f"sum({of('inventory_refresh_pending_locations')})", "with pending changes", BLUE),
        Query(f"sum({of('inventory_refresh_held_locations')})", "held", RED),
        Query(f"sum({of('inventory_refresh_bisecting_locations')})", "being narrowed down", PURPLE),
        Query(f"sum({of('inventory_refresh_requests_in_flight')})", "with a request in flight", GREY),
        unit=units.Short,
        decimals=0,
    )
