"""One location: why is this store's count stale? Needs metrics per location, which are off by default."""

from typing import Final

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from helm.dashboards_source import oms, well
from helm.dashboards_source.parts import (
    BLUE,
    CHANGES_PER_SECOND,
    GREEN,
    LOCATION,
    ORANGE,
    RED,
    REQUESTS_PER_SECOND,
    YELLOW,
    AnyPanel,
    Query,
    Told,
    graph,
    increase,
    limit,
    listing,
    note,
    number,
    of,
    quantile,
    rate,
)

CURRENT: Final = "Is its count current?"
WAY: Final = "How its changes pass"
OTHERS: Final = "All locations, and what they share"

CHOSEN: Final = 'location="$location"'
NONE: Final = "No data: see the note"
LISTED_MAX: Final = 20

NOTE: Final = """\
**No data below?** Metrics of single locations are off by default: set `metrics.locations_max` to as many locations as
there are (each is a handful of series). Locations beyond that number are not told apart; *Not tracked* counts them.

**Why is a store's count stale?**
1. *Oldest unsent change* is high: the change is here and waits. See *Requests by answer*, then \
[the whole service](d/inventory-refresh?${datasource:queryparam}&${namespace:queryparam}&${release:queryparam}).
2. *Last accepted* is recent: the OMS has it, and may still work off its queue. See *Time of a job in the OMS*.
3. Nothing waits, and *Last accepted* is long ago: no change of this store has come. Ask the producer of the events.
4. The numbers are fine, one item is stale: look for it among the dead letters, `inventory-refresh dead-letters list`.
"""


def current() -> list[AnyPanel]:
    """What to know first, and five numbers that answer it."""
    accepted = of("inventory_refresh_location_last_accepted_timestamp_seconds", CHOSEN)
    return [
        note("Read this first", NOTE, width=24, height=6),
        number(
            "Last accepted",
            Told(
                "How long ago the OMS gave a jobID for changes of this location.",
                "Long ago is well if nothing is pending: then no change has come since. Else see the numbers beside "
                "it.",
            ),
            Query(f"time() - max({accepted} > 0)"),
            unit=units.Seconds,
            steps=((None, BLUE),),
            width=5,
            now=True,
            no_value=NONE,
        ),
        number(
            "Oldest unsent change",
            Told(
                "How long the location's oldest change without a jobID has been waiting. Up to window.max_age is by "
                "design.",
                "See Requests by answer: unavailable or over_quota concern all locations; refused this one. No request "
                "at all: it is held after an unknown outcome, or nothing leaves (Breaker on the other dashboard).",
            ),
            Query(f"max({of('inventory_refresh_location_oldest_pending_seconds', CHOSEN)})"),
            unit=units.Seconds,
            steps=((None, GREEN), (360, YELLOW), (600, RED)),
            width=5,
            no_value=NONE,
        ),
        number(
            "Pending changes",
            Told(
                "Changes of the location that were read and have no jobID yet.",
                "Many and growing: it changes faster than it is sent, or is not sent at all: see the oldest of them.",
            ),
            Query(f"sum({of('inventory_refresh_location_pending_changes', CHOSEN)})"),
            unit=units.Short,
            steps=((None, BLUE),),
            width=5,
            no_value=NONE,
        ),
        number(
            "Requests without a jobID",
            Told(
                "Requests of the location in the time shown that were answered otherwise than with a jobID.",
                "Some, and later ones accepted: nothing to do, they were sent again. refused again and again: its "
                "items are wrong, see the dead letters.",
            ),
            # An outcome that never came has no series: where the location has others, that is 0 and not "no data".
            Query(
                f"sum({increase('inventory_refresh_location_requests_answered_total', CHOSEN, _FAILED)})"
                f" or 0 * sum({of('inventory_refresh_location_pending_changes', CHOSEN)})"
            ),
            unit=units.Short,
            steps=((None, GREEN), (0.5, ORANGE)),
            width=5,
            decimals=0,
            now=True,
            no_value=NONE,
        ),
        number(
            "Not tracked",
            Told(
                "Locations that have no metrics of their own, as there are more of them than metrics.locations_max.",
                "If the one you look for is not in the list above: raise metrics.locations_max.",
            ),
            Query(f"max({of('inventory_refresh_locations_untracked')})"),
            unit=units.Short,
            steps=((None, GREEN), (1, YELLOW)),
            width=4,
            decimals=0,
            no_value=NONE,
        ),
    ]


_FAILED: Final = 'outcome!="accepted"'


def way() -> list[AnyPanel]:
    """The same over time."""
    return [
        graph(
            "Oldest unsent change",
            Told(
                "How long ago the location's oldest change without a jobID was read.",
                "Above the dashed line (window.max_age) for long: see Requests by answer, then the other dashboard.",
            ),
            Query(f"max({of('inventory_refresh_location_oldest_pending_seconds', CHOSEN)})", "oldest"),
            limit(f"max({of('inventory_refresh_window_max_age_seconds')})", "max_age"),
            unit=units.Seconds,
            width=12,
        ),
        graph(
            "Pending changes",
            Told("Changes read and not yet accepted.", "A slope without end: it is not sent. See Requests by answer."),
            Query(f"sum({of('inventory_refresh_location_pending_changes', CHOSEN)})", "pending"),
            unit=units.Short,
            width=12,
        ),
        graph(
            "Items accepted a second",
            Told(
                "Items of the location in requests that got a jobID: these counts the OMS has in hand.",
                "0 for long: no change has come, or none is accepted. The numbers above tell which.",
            ),
            Query(f"sum({rate('inventory_refresh_location_items_accepted_total', CHOSEN)})", "accepted", GREEN),
            unit=CHANGES_PER_SECOND,
            width=12,
        ),
        graph(
            "Requests by answer",
            Told(
                "The location's requests a second, by what was answered.",
                "unknown, unreadable: it is held for oms.unknown_hold each time. refused: see the dead letters. The "
                "others concern all locations alike.",
            ),
            Query(
                f"sum by (outcome) ({rate('inventory_refresh_location_requests_answered_total', CHOSEN)}) > 0",
                "{{outcome}}",
            ),
            unit=REQUESTS_PER_SECOND,
            width=12,
            stacked=True,
            colors=oms.OUTCOMES,
        ),
    ]


def others() -> list[AnyPanel]:
    """How it stands beside the others, and what holds all of them up."""
    gauge = of("inventory_refresh_location_oldest_pending_seconds")
    accepted = of("inventory_refresh_location_last_accepted_timestamp_seconds")
    pending = of("inventory_refresh_location_pending_changes")
    slowest = f"topk({LISTED_MAX}, max by (location) ({gauge}))"
    return [
        listing(
            "Locations that wait longest",
            Told(
                f"The {LISTED_MAX} locations whose oldest change waits longest, and how long ago each was last "
                "accepted. A click on one shows it above.",
                "One far ahead of the others: it has a trouble of its own. All alike: the OMS or this service has.",
            ),
            {
                "oldest unsent": slowest,
                "pending changes": f"sum by (location) ({pending}) and on (location) {slowest}",
                "last accepted, ago": f"time() - max by (location) ({accepted} > 0) and on (location) {slowest}",
            },
            labels={"location": "location"},
            width=12,
            height=10,
            overrides={
                "oldest unsent": _SECONDS,
                "last accepted, ago": _SECONDS,
                "location": _LINKED,
            },
            sort_by="oldest unsent",
            no_value=NONE,
        ),
        graph(
            "Time of a job in the OMS",
            Told(
                "How long 95 % of all jobs waited in the OMS's queue, and were worked on, at most: what comes on top "
                "after a count was accepted.",
                "Long: the OMS's queue is full; every store sees its counts so much later.",
            ),
            Query(quantile(0.95, "inventory_refresh_job_queued_seconds"), "95 % queued", YELLOW),
            Query(quantile(0.95, "inventory_refresh_job_processing_seconds"), "95 % worked", GREEN),
            unit=units.Seconds,
            width=6,
            height=10,
        ),
        graph(
            "Requests that failed, of all locations",
            Told(
                "Requests that the OMS refused, and jobs that failed, of all locations together in each interval.",
                "If this location stands still and the others too: the cause is here, not in the store.",
            ),
            Query(
                f"sum(increase({of('inventory_refresh_requests_answered_total', well.REFUSALS)}[$__rate_interval]))",
                "refused",
                ORANGE,
            ),
            Query(
                f"sum(increase({of('inventory_refresh_jobs_ended_total', well.FAILURES)}[$__rate_interval]))",
                "jobs failed",
                RED,
            ),
            unit=units.Short,
            width=6,
            height=10,
            stacked=True,
            decimals=0,
        ),
    ]


_SECONDS: Final = (
    DynamicConfigValue(id_val="unit", value=units.Seconds),
    DynamicConfigValue(id_val="decimals", value=1),
)
_LINKED: Final = (
    DynamicConfigValue(
        id_val="links",
        value=[
            {
                "title": "Show ${__value.text}",
                "url": f"/d/{LOCATION}?${{datasource:queryparam}}&${{namespace:queryparam}}&${{release:queryparam}}"
                "&var-location=${__value.text:percentencode}&${__url_time_range}",
            }
        ],
    ),
)
