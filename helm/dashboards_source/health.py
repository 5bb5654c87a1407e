"""The first row, "Health": what to look at first after a page. If it is all green, no other row is needed."""

from grafana_foundation_sdk.models import units

from helm.dashboards_source.parts import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    AnyPanel,
    Description,
    Query,
    by_partition,
    graph,
    increase,
    limit,
    number,
    of,
)

TITLE = "Health"

REFUSALS = 'outcome=~"refused|unauthorised|forbidden|wrong_address"'
FAILURES = 'outcome!="success"'


def panels() -> list[AnyPanel]:
    """Eight numbers, and graphs of the two whose history matters most."""
    return [*_numbers(), _oldest(), _lag()]


def _numbers() -> list[AnyPanel]:
    return [
        number(
            "Members ready",
            Description(
                "The share of processes that are ready: they are in the group and can send.",
                "A new process needs seconds until it is assigned partitions. One that stays unready needs an "
                "operator (see Sending) or cannot join the group (see the log). No data at all: no process "
                "runs, or Prometheus does not scrape it.",
                alerts=(
                    "InventoryRefreshNoMembers",
                    "InventoryRefreshNotReady",
                ),
            ),
            Query(f"sum({of('inventory_refresh_ready')}) / count({of('inventory_refresh_ready')})"),
            unit=units.PercentUnit,
            steps=((None, RED), (0.01, YELLOW), (1, GREEN)),
            decimals=0,
        ),
        number(
            "Oldest unsent change",
            Description(
                "How long the oldest change without a jobID has been waiting, as a share of window.max_age. "
                "Up to 100 % is by design, a little more while its request is in flight or its location is "
                "held. With default settings it turns red where the alert fires.",
                "Check Breaker and Sending first: while the OMS is unavailable, changes wait by design and "
                "none is lost. If both are fine, see the rows OMS (answers, calls per second) and Windows "
                "(held locations).",
                alerts=("InventoryRefreshChangesTooOld",),
            ),
            Query(
                f"max({of('inventory_refresh_oldest_pending_seconds')}"
                f" / {of('inventory_refresh_window_max_age_seconds')})"
            ),
            unit=units.PercentUnit,
            steps=((None, GREEN), (1.5, YELLOW), (2.4, RED)),
            decimals=0,
        ),
        number(
            "Lag",
            Description(
                "Messages between the committable offset and the end of the topic. Changes that wait in their "
                "windows count too, so it is rarely 0: normal is the rate of changes times window.max_age.",
                "A lag that keeps growing means that more changes arrive than are accepted. See Lag by "
                "partition and Oldest unsent change: reading may be paused (row Kafka), or the OMS may not "
                "keep up (row OMS).",
                alerts=("InventoryRefreshFallingBehind",),
            ),
            Query(f"sum({by_partition('inventory_refresh_partition_lag_offsets')})"),
            unit=units.Short,
            steps=((None, BLUE),),
        ),
        number(
            "Breaker",
            Description(
                "State of the circuit breaker, of the worst member. Closed: requests are sent. Open: the OMS "
                "failed several times and gets no requests for a while. Half-open: single requests probe "
                "whether it is back.",
                "The OMS or the connection to it is down: see Answers by outcome in row OMS for how it fails, "
                "and contact its operators. No change is lost, and nothing has to be done here afterwards.",
                alerts=("InventoryRefreshOmsUnavailable",),
            ),
            Query(f"max(2 * {_breaker('open')} + ignoring(state) {_breaker('half_open')})"),
            unit=units.NoUnit,
            steps=((None, GREEN), (1, YELLOW), (2, RED)),
            names={0: ("closed", GREEN), 1: ("half-open", YELLOW), 2: ("open", RED)},
        ),
        number(
            "Sending",
            Description(
                "Whether a member has stopped sending until an operator fixes something: wrong or revoked "
                "credentials, a wrong URL, missing permissions.",
                "The log and the status page of that member say what it is. New API credentials are read from "
                "their files without a restart; other settings need one. Changes that were read wait and are "
                "not lost.",
                alerts=("InventoryRefreshSendingStopped",),
            ),
            Query(f"max({of('inventory_refresh_sending_stopped')})"),
            unit=units.NoUnit,
            steps=((None, GREEN), (1, RED)),
            names={0: ("active", GREEN), 1: ("stopped", RED)},
        ),
        number(
            "Refused requests",
            Description(
                "Requests in the selected time range that the OMS refused: as invalid (400), or because of "
                "credentials, permission or URL.",
                "After a 400, bisection finds the items that cause it, and only those are dead-lettered; the "
                "dead letters have the reason. For the others see Sending.",
                alerts=("InventoryRefreshRequestsRefused",),
            ),
            Query(f"sum({increase('inventory_refresh_requests_answered_total', REFUSALS)})"),
            unit=units.LocaleFormat,
            steps=((None, GREEN), (0.5, ORANGE)),
            decimals=0,
            now=True,
        ),
        number(
            "Failed jobs",
            Description(
                "Jobs in the selected time range that the OMS accepted but did not apply, or does not know "
                "any more. Their counts in the OMS are stale.",
                "The changes of failed jobs are in the dead-letter topic, with jobID and reason. Find out "
                "from the OMS why they failed, then send them again: inventory-refresh dead-letters redrive.",
                alerts=(
                    "InventoryRefreshJobsFailed",
                    "InventoryRefreshManyJobsFailed",
                ),
            ),
            Query(f"sum({increase('inventory_refresh_jobs_ended_total', FAILURES)})"),
            unit=units.LocaleFormat,
            steps=((None, GREEN), (0.5, RED)),
            decimals=0,
            now=True,
        ),
        number(
            "Dead letters",
            Description(
                "Changes that went to the dead-letter topic in the selected time range, because they cannot "
                "be sent or were not applied. Each one is a count that the OMS does not have.",
                "See Dead letters by reason in row Flow. Bad events must be fixed by their producer; what was "
                "refused or failed can be sent again: inventory-refresh dead-letters list, show, redrive.",
                alerts=("InventoryRefreshDeadLetters",),
            ),
            Query(f"sum({increase('inventory_refresh_dead_letters_confirmed_total')})"),
            unit=units.LocaleFormat,
            steps=((None, GREEN), (0.5, YELLOW)),
            decimals=0,
            now=True,
        ),
    ]


def _breaker(state: str) -> str:
    return of("inventory_refresh_oms_breaker_state", f'state="{state}"')


def _oldest() -> AnyPanel:
    return graph(
        "Oldest unsent change",
        Description(
            "How long ago each member read its oldest change without a jobID. A saw-tooth below the dashed "
            "line (window.max_age) is normal for quiet locations.",
            "A slope that crosses the line: something keeps changes from being sent. The breaker (OMS down), "
            "a held location (unknown outcome: oms.unknown_hold), or more requests than may be in flight.",
            alerts=("InventoryRefreshChangesTooOld",),
        ),
        Query(f"max by (pod) ({of('inventory_refresh_oldest_pending_seconds')})", "{{pod}}"),
        limit(f"max({of('inventory_refresh_window_max_age_seconds')})", "max_age"),
        unit=units.Seconds,
        width=12,
    )


def _lag() -> AnyPanel:
    return graph(
        "Lag by partition",
        Description(
            "Messages of each partition between its committable offset and its end, as last reported by the broker.",
            "All partitions grow: the OMS or this service does not keep up. One alone: a location in it "
            "cannot be sent and blocks the offset (see Uncommitted offsets by partition in row Kafka), or no "
            "member reads it.",
            alerts=(
                "InventoryRefreshOffsetsStuck",
                "InventoryRefreshFallingBehind",
            ),
        ),
        Query(by_partition("inventory_refresh_partition_lag_offsets"), "{{topic}} {{partition}}"),
        unit=units.Short,
        width=12,
    )
