"""How well changes are batched: few, full requests are the purpose of this service."""

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
    Description,
    Query,
    graph,
    limit,
    of,
    quantile,
    rate,
)

TITLE = "Windows: batching into few, full requests"

_ITEMS = "inventory_refresh_request_items"
_CHUNKS = "inventory_refresh_request_chunks_bucket"


def panels() -> list[AnyPanel]:
    """Sizes first, then what is waiting."""
    return [_items(), _chunks(), _unused(), _reasons(), _pending(), _locations()]


def _items() -> AnyPanel:
    return graph(
        "Items per request",
        Description(
            "Size of the requests: mean, median and 95th percentile. The dashed line is window.flush_items, "
            "at which a window is full.",
            "Small requests are not an error, but the OMS processes requests one at a time, so many of them "
            "fill its queue. A longer window.max_age makes them larger.",
        ),
        Query(f"sum({rate(f'{_ITEMS}_sum')}) / (sum({rate(f'{_ITEMS}_count')}) > 0)", "mean", BLUE),
        Query(quantile(0.5, _ITEMS), "median", GREEN),
        Query(quantile(0.95, _ITEMS), "95 %", YELLOW),
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
        "Chunks per request",
        Description(
            "Requests per second by how many of the OMS's chunks (3,000 items) they take. Four is the maximum.",
            "Nearly all have one chunk while much changes: windows are sent before they fill. See Send "
            "reasons; a longer window.max_age fills them.",
        ),
        *queries,
        unit=REQUESTS_PER_SECOND,
        stacked=True,
    )


def _unused() -> AnyPanel:
    wasted = f"sum({rate('inventory_refresh_chunk_items_wasted_total')})"
    sent = f"sum({rate('inventory_refresh_items_sent_total')})"
    return graph(
        "Unused chunk capacity",
        Description(
            "The share of the chunks sent that was empty. The OMS spends about as much time on a partial "
            "chunk as on a full one.",
            "High while little changes is normal, because no change waits longer than window.max_age. High "
            "under load: many small locations; only a longer window.max_age helps.",
        ),
        Query(f"{wasted} / ({wasted} + {sent} > 0)", "empty", ORANGE),
        unit=units.PercentUnit,
        share=True,
    )


def _reasons() -> AnyPanel:
    return graph(
        "Send reasons",
        Description(
            "Requests per second by why they were sent: full (the window held flush_items), age (its oldest "
            "change was max_age old), pressure (memory was short), small (few changes of a quiet location, by smart "
            "refresh), bisection (part of a refused request, to find the items that cause it).",
            "bisection does not end: the OMS refuses a lot. See Dead letters by reason, and the answers in row OMS.",
        ),
        Query(f"sum by (reason) ({rate('inventory_refresh_requests_sent_total')})", "{{reason}}"),
        unit=REQUESTS_PER_SECOND,
        stacked=True,
        colors={"full": GREEN, "age": BLUE, "pressure": ORANGE, "small": PURPLE, "bisection": RED},
    )


def _pending() -> AnyPanel:
    return graph(
        "Pending changes",
        Description(
            "Changes that each member has read and that have no jobID yet.",
            "Growing until reading pauses: see Memory of pending changes.",
        ),
        Query(f"sum by (pod) ({of('inventory_refresh_pending_changes')})", "{{pod}}"),
        unit=units.Short,
    )


def _locations() -> AnyPanel:
    return graph(
        "Waiting locations",
        Description(
            "Locations with pending changes, held locations (after a request with an unknown outcome), "
            "locations whose refused request is being bisected, locations that are set aside because they are "
            "refused whole, and locations with a request in flight.",
            "Held for long: outcomes keep being unknown. See Answers by outcome (unknown, unreadable): a "
            "gateway in front of the OMS may lose answers.",
        ),
        Query(f"sum({of('inventory_refresh_pending_locations')})", "with pending changes", BLUE),
        Query(f"sum({of('inventory_refresh_held_locations')})", "held", RED),
        Query(f"sum({of('inventory_refresh_bisecting_locations')})", "in bisection", PURPLE),
        Query(f"sum({of('inventory_refresh_set_aside_locations')})", "set aside", ORANGE),
        Query(f"sum({of('inventory_refresh_requests_in_flight')})", "with a request in flight", GREY),
        unit=units.Short,
        decimals=0,
    )
