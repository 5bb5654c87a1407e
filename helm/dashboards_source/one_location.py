"""A single location: why is the count of this store stale? Needs metrics by location, which are off by default."""

from typing import Final

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from helm.dashboards_source import health, oms
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
    Description,
    Query,
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
HISTORY: Final = "Over time"
OTHERS: Final = "All locations"

CHOSEN: Final = 'location="$location"'
NONE: Final = "No data: see the note"
LISTED_MAX: Final = 20

NOTE: Final = """\
**No data below?** Metrics by location are off by default: set `metrics.locations_max` to the number of your locations
(each has a handful of series). Locations beyond that number have no metrics; *Untracked locations* counts them.

**Why is the count of a store stale?**
1. *Oldest unsent change* is high: the change was read and waits. See *Requests by outcome*, then \
[the whole service](d/inventory-refresh?${datasource:queryparam}&${namespace:queryparam}&${release:queryparam}).
2. *Last accepted* is recent: the OMS has the change, perhaps still in its queue. See *Time of a job in the OMS*.
3. Nothing waits, and *Last accepted* is long ago: there was no change for this store. Ask the producer of the events.
4. The numbers are fine but one item is stale: look for it in the dead letters, `inventory-refresh dead-letters list`.
"""


def current() -> list[AnyPanel]:
    """A note, and five numbers."""
    accepted = of("inventory_refresh_location_last_accepted_timestamp_seconds", CHOSEN)
    return [
        note("Read this first", NOTE, width=24, height=6),
        number(
            "Last accepted",
            Description(
                "How long ago the OMS returned a jobID for changes of this location.",
                "A long time is fine if nothing is pending: there was no change since. Otherwise see the "
                "numbers next to it.",
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
            Description(
                "How long the oldest change of the location without a jobID has been waiting. Up to "
                "window.max_age is by design.",
                "See Requests by outcome: unavailable or over_quota affect all locations; refused affects "
                "this one. No request at all: it is held after an unknown outcome, or nothing is sent "
                "(Breaker on the other dashboard).",
            ),
            Query(f"max({of('inventory_refresh_location_oldest_pending_seconds', CHOSEN)})"),
            unit=units.Seconds,
            steps=((None, GREEN), (360, YELLOW), (600, RED)),
            width=5,
            no_value=NONE,
        ),
        number(
            "Pending changes",
            Description(
                "Changes of the location that were read and have no jobID yet.",
                "Many and growing: it changes faster than it is sent, or it is not sent at all; see Oldest "
                "unsent change.",
            ),
            Query(f"sum({of('inventory_refresh_location_pending_changes', CHOSEN)})"),
            unit=units.Short,
            steps=((None, BLUE),),
            width=5,
            no_value=NONE,
        ),
        number(
            "Requests without a jobID",
            Description(
                "Requests of the location in the selected time range that were not answered with a jobID.",
                "Some, and later ones accepted: nothing to do, the changes were sent again. refused again and "
                "again: its items are wrong, see the dead letters.",
            ),
            # An outcome that never occurred has no series. For a tracked location that means 0, not "no data".
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
            "Untracked locations",
            Description(
                "Locations without their own metrics, because there are more locations than metrics.locations_max.",
                "If your location is not in the list above, raise metrics.locations_max.",
            ),
            Query(f"max({of('inventory_refresh_locations_untracked')})"),
            unit=units.Short,
            steps=((None, GREEN), (1, YELLOW)),
            width=4,
            decimals=0,
            no_value=NONE,
        ),
    ]


_FAILED: Final = 'outcome!~"accepted|applied"'


def history() -> list[AnyPanel]:
    """The same over time."""
    return [
        graph(
            "Oldest unsent change",
            Description(
                "How long ago the oldest change of the location without a jobID was read.",
                "Above the dashed line (window.max_age) for long: see Requests by outcome, then the other dashboard.",
            ),
            Query(f"max({of('inventory_refresh_location_oldest_pending_seconds', CHOSEN)})", "oldest"),
            limit(f"max({of('inventory_refresh_window_max_age_seconds')})", "max_age"),
            unit=units.Seconds,
            width=12,
        ),
        graph(
            "Pending changes",
            Description(
                "Changes of the location read and not yet accepted.",
                "A slope that does not end: the location is not sent. See Requests by outcome.",
            ),
            Query(f"sum({of('inventory_refresh_location_pending_changes', CHOSEN)})", "pending"),
            unit=units.Short,
            width=12,
        ),
        graph(
            "Items accepted per second",
            Description(
                "Items of the location in requests that got a jobID: the OMS has received these counts.",
                "0 for long: there was no change, or none is accepted. The numbers above say which.",
            ),
            Query(f"sum({rate('inventory_refresh_location_items_accepted_total', CHOSEN)})", "accepted", GREEN),
            unit=CHANGES_PER_SECOND,
            width=12,
        ),
        graph(
            "Requests by outcome",
            Description(
                "Requests of the location per second, by outcome of the answer.",
                "unknown, unreadable: the location is held for oms.unknown_hold each time. refused: see the "
                "dead letters. The others affect all locations alike.",
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
    """All locations for comparison, and what delays them all."""
    gauge = of("inventory_refresh_location_oldest_pending_seconds")
    accepted = of("inventory_refresh_location_last_accepted_timestamp_seconds")
    pending = of("inventory_refresh_location_pending_changes")
    slowest = f"topk({LISTED_MAX}, max by (location) ({gauge}))"
    return [
        listing(
            "Longest waiting locations",
            Description(
                f"The {LISTED_MAX} locations whose oldest change has been waiting longest, and when they were last "
                "accepted. Click a location to show it above.",
                "One far ahead of the others: it has a problem of its own. All alike: the OMS or this service has one.",
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
            Description(
                "95 % of all jobs waited in the OMS's queue, and were processed, for at most this long: the "
                "delay after a count was accepted.",
                "Long: the OMS's queue is full, and every store sees its counts that much later.",
            ),
            Query(quantile(0.95, "inventory_refresh_job_queued_seconds"), "95 % queued", YELLOW),
            Query(quantile(0.95, "inventory_refresh_job_processing_seconds"), "95 % processed", GREEN),
            unit=units.Seconds,
            width=6,
            height=10,
        ),
        graph(
            "Failed requests and jobs of all locations",
            Description(
                "Requests that the OMS refused, and jobs that failed, of all locations in each interval.",
                "If this location is stuck and the others are too, the cause is here and not in the store.",
            ),
            Query(
                f"sum(increase({of('inventory_refresh_requests_answered_total', health.REFUSALS)}[$__rate_interval]))",
                "refused",
                ORANGE,
            ),
            Query(
                f"sum(increase({of('inventory_refresh_jobs_ended_total', health.FAILURES)}[$__rate_interval]))",
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
                "url": f"/d/{LOCATION}?${{datasource:queryparam}}&${{cluster:queryparam}}&${{namespace:queryparam}}"
                "&${release:queryparam}&var-location=${__value.text:percentencode}&${__url_time_range}",
            }
        ],
    ),
)
