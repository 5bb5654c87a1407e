"""The first row, "Is it well?": whoever is woken at night looks here, and needs no other row if all is green."""

from grafana_foundation_sdk.models import units

from helm.dashboards_source.parts import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    AnyPanel,
    Query,
    Told,
    by_partition,
    graph,
    increase,
    limit,
    number,
    of,
)

TITLE = "Is it well?"

REFUSALS = 'outcome=~"refused|unauthorised|forbidden|wrong_address"'
FAILURES = 'outcome!="success"'


def panels() -> list[AnyPanel]:
    """Eight numbers, and the two of them whose way matters most."""
    return [*_numbers(), _oldest(), _lag()]


def _numbers() -> list[AnyPanel]:
    return [
        number(
            "Members ready",
            Told(
                "The share of processes that are ready: they have partitions and can send.",
                "A new process needs seconds to be handed partitions. One that stays unready waits for a person "
                "(see Sending) or finds no partition to read (more processes than partitions). No data at all: nothing "
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
            Told(
                "How long the oldest change without a jobID has been waiting, as a share of window.max_age. Up to "
                "100 % is by design, a little more while its request is under way or its location is held. With "
                "default settings the alert fires where it turns red.",
                "Look at Breaker and Sending first: while the OMS is not well, changes wait by design and none is "
                "lost. If both are well, see the rows OMS (answers, calls a second) and Windows (held locations).",
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
            Told(
                "Messages between what is committed as accepted and the end of the topic. Changes that still wait "
                "in their windows count too, so it is never 0 for long: the rate of changes times window.max_age is "
                "usual.",
                "A lag that only grows means that more comes in than leaves. See Lag by partition beside it, and the "
                "oldest unsent change: reading may be paused (row Kafka), or the OMS may not keep up (row OMS).",
                alerts=("InventoryRefreshFallingBehind",),
            ),
            Query(f"sum({by_partition('inventory_refresh_partition_lag_offsets')})"),
            unit=units.Short,
            steps=((None, BLUE),),
        ),
        number(
            "Breaker",
            Told(
                "Whether requests go to the OMS: closed is well; open means that it failed several times and gets no "
                "requests for a while; half-open that single ones try whether it is back. The worst member counts.",
                "The OMS or the way to it is down: see Answers by outcome in row OMS for how it fails, and tell those "
                "who run it. Nothing is lost meanwhile, and nothing needs doing here afterwards.",
                alerts=("InventoryRefreshOmsUnavailable",),
            ),
            Query(f"max(2 * {_breaker('open')} + ignoring(state) {_breaker('half_open')})"),
            unit=units.NoUnit,
            steps=((None, GREEN), (1, YELLOW), (2, RED)),
            names={0: ("closed", GREEN), 1: ("half-open", YELLOW), 2: ("open", RED)},
        ),
        number(
            "Sending",
            Told(
                "Whether a member has stopped sending until a person changes something: wrong or revoked credentials, "
                "a wrong address, missing rights.",
                "The log and the status page of that member say what it is. New secrets are read by themselves; other "
                "settings need a restart. What was read waits and is not lost.",
                alerts=("InventoryRefreshSendingStopped",),
            ),
            Query(f"max({of('inventory_refresh_sending_stopped')})"),
            unit=units.NoUnit,
            steps=((None, GREEN), (1, RED)),
            names={0: ("goes on", GREEN), 1: ("stopped", RED)},
        ),
        number(
            "Refused requests",
            Told(
                "Requests that the OMS refused in the time shown: as wrong in themselves (400), or for the "
                "credentials, the rights or the address.",
                "After a 400 the items at fault are looked for and only they go to the dead letters: see there why. "
                "For the others see Sending.",
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
            Told(
                "Jobs in the time shown that the OMS accepted and then did not apply, or of which it knows nothing "
                "any more. Their counts in the OMS are stale.",
                "The jobs' changes are in the dead-letter topic with jobID and reason. Find out from the OMS why they "
                "failed, then send them again: inventory-refresh dead-letters redrive.",
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
            Told(
                "Changes that went to the dead-letter topic in the time shown: they can not be sent, or were not "
                "applied. Every one is a count that the OMS lacks.",
                "See Dead letters by reason in row Flow. Bad events need their producer repaired; what was refused or "
                "failed can be sent again: inventory-refresh dead-letters list, show, redrive.",
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
        Told(
            "How long ago each member read the oldest change that has no jobID yet. A saw-tooth below the dashed line "
            "(window.max_age) is the usual picture of quiet locations.",
            "A slope that crosses the line: something holds changes back. The breaker (OMS down), a held location "
            "(unknown outcome: oms.unknown_hold), or more requests than may leave at once.",
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
        Told(
            "Messages of each partition between what is committed as accepted and its end, as the broker last told it.",
            "All partitions grow: the OMS or this service does not keep up. One alone: a location in it can not be "
            "sent, and holds the offset back (see Unaccepted offsets in row Kafka), or nobody reads it.",
            alerts=(
                "InventoryRefreshOffsetsStuck",
                "InventoryRefreshFallingBehind",
            ),
        ),
        Query(by_partition("inventory_refresh_partition_lag_offsets"), "{{topic}} {{partition}}"),
        unit=units.Short,
        width=12,
    )
