"""How the OMS answers, and what becomes of the jobs that it made."""

from grafana_foundation_sdk.models import units

from helm.dashboards_source.parts import (
    BLUE,
    CHANGES_PER_SECOND,
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

TITLE = "OMS: answers and jobs"

OUTCOMES = {
    "accepted": GREEN,
    "over_quota": YELLOW,
    "unavailable": ORANGE,
    "unknown": PURPLE,
    "unreadable": "dark-purple",
    "refused": RED,
    "unauthorised": "dark-red",
    "forbidden": "dark-red",
    "wrong_address": "dark-red",
    "not_sent": GREY,
}
"""The colour of each kind of answer: green is well, yellow and orange pass by themselves, red needs a person."""


def panels() -> list[AnyPanel]:
    """Answers, then jobs, then how hard the OMS is pressed."""
    return [_answers(), _seconds(), _failures(), _ended(), _unfinished(), _job_seconds(), _calls(), _codes(), _items()]


def _answers() -> AnyPanel:
    return graph(
        "Answers by outcome",
        Told(
            "Answers to refresh requests a second, by what they mean (docs/oms-answers.md): accepted is a jobID.",
            "unavailable, over_quota: it comes back by itself, requests are sent again later. unknown, unreadable: the "
            "request may have been queued, its location is held for oms.unknown_hold. refused: items are wrong. "
            "unauthorised, forbidden, wrong_address: credentials, rights or oms.base_url need a person.",
            alerts=(
                "InventoryRefreshOmsUnavailable",
                "InventoryRefreshRequestsRefused",
            ),
        ),
        Query(f"sum by (outcome) ({rate('inventory_refresh_requests_answered_total')}) > 0", "{{outcome}}"),
        unit=REQUESTS_PER_SECOND,
        stacked=True,
        colors=OUTCOMES,
    )


def _seconds() -> AnyPanel:
    seconds = "inventory_refresh_request_duration_seconds"
    return graph(
        "Time to an answer",
        Told(
            "From a request's submission to its answer, waiting for a connection included.",
            "Towards oms.timeout (30 s by default): the OMS or the way to it is slow, and outcomes will be unknown. "
            "Tell those who run it; a longer time-out only helps if answers do come.",
        ),
        Query(quantile(0.5, seconds), "half of the requests", GREEN),
        Query(quantile(0.95, seconds), "95 %", YELLOW),
        Query(quantile(0.99, seconds), "99 %", ORANGE),
        unit=units.Seconds,
    )


def _failures() -> AnyPanel:
    state = "inventory_refresh_oms_breaker_state"
    opened, half_open = of(state, 'state="open"'), of(state, 'state="half_open"')
    return graph(
        "Failures in a row, and breakers",
        Told(
            "How often the OMS as a whole has failed since its last jobID (the worst member), and how many members' "
            "breakers are open or half-open.",
            "Growing: the OMS is down, and probed ever more seldom (at least every oms.backoff_max). It falls to 0 "
            "with the first jobID.",
        ),
        Query(f"max({of('inventory_refresh_oms_consecutive_failures')})", "failures in a row", ORANGE),
        Query(f"sum({opened})", "members with an open breaker", RED),
        Query(f"sum({half_open})", "half-open", YELLOW),
        unit=units.Short,
        decimals=0,
    )


def _ended() -> AnyPanel:
    return graph(
        "Jobs ended",
        Told(
            "Accepted jobs a second that came to an end, by how: success is applied. Of never_finished and "
            "unknown_job the OMS does not say what became of them; unfollowed ones nobody asks for any more (too "
            "many, or the process ended: its log names them).",
            "failed: their changes are dead letters with the jobID; ask those who run the OMS why. unknown_job: the "
            "OMS lost jobs that it had accepted.",
            alerts=(
                "InventoryRefreshManyJobsFailed",
                "InventoryRefreshJobsNeverFinished",
            ),
        ),
        Query(f"sum by (outcome) ({rate('inventory_refresh_jobs_ended_total')}) > 0", "{{outcome}}"),
        Query(f"sum({rate('inventory_refresh_jobs_evicted_total')}) > 0", "evicted", GREY),
        unit=REQUESTS_PER_SECOND,
        stacked=True,
        colors={"success": GREEN, "failed": RED, "never_finished": PURPLE, "unknown_job": ORANGE},
    )


def _unfinished() -> AnyPanel:
    return graph(
        "Jobs that have not ended",
        Told(
            "Accepted jobs whose end the OMS has not told yet: its queue, as far as it is ours. Members that are told "
            "nothing of jobs (refused, over-quota, unreachable) are counted beside them.",
            "Growing: the OMS works off less than it is given, so counts are stale although they were accepted. Fewer, "
            "larger requests help (window.max_age, window.flush_items: auto); else the OMS needs more capacity.",
            alerts=("InventoryRefreshJobStatusUnavailable",),
        ),
        Query(f"sum({of('inventory_refresh_unfinished_jobs')})", "jobs", BLUE),
        Query(f"sum({of('inventory_refresh_job_status_unavailable')})", "members told nothing", RED),
        unit=units.Short,
        decimals=0,
    )


def _job_seconds() -> AnyPanel:
    return graph(
        "Time of a job in the OMS",
        Told(
            "How long 95 % of the jobs waited in the OMS's queue and were worked on at most, by the OMS's clock; "
            "and how long the oldest of those that have not ended has been followed.",
            "Waiting grows, work does not: the OMS's queue is long (who else fills it?). Work grows: the OMS itself "
            "has become slow. Either way stores see counts so much later.",
            alerts=("InventoryRefreshJobsLate",),
        ),
        Query(quantile(0.95, "inventory_refresh_job_queued_seconds"), "95 % queued", YELLOW),
        Query(quantile(0.95, "inventory_refresh_job_processing_seconds"), "95 % worked", GREEN),
        Query(f"max({of('inventory_refresh_oldest_unfinished_job_seconds')})", "oldest not ended", RED),
        unit=units.Seconds,
    )


def _calls() -> AnyPanel:
    return graph(
        "Requests a second, their chunks, and the limit",
        Told(
            "Refresh requests of all members together, the chunks that the OMS has to work off for them, and the calls "
            "that members may make at most, as set (oms.max_requests_per_second) or learned from over-quota answers. "
            "No dashed line: no limit. Calls that ask for jobs count against the limit too.",
            "Requests close to the line for long: the key's quota is too small for so many locations. Ask for more, or "
            "send fewer, larger requests (window.max_age).",
        ),
        Query(f"sum({rate('inventory_refresh_requests_sent_total')})", "requests", BLUE),
        Query(f"sum({rate('inventory_refresh_chunks_sent_total')})", "chunks", PURPLE),
        limit(f"sum({of('inventory_refresh_oms_requests_per_second_max')} < +Inf)", "limit"),
        unit=REQUESTS_PER_SECOND,
    )


def _codes() -> AnyPanel:
    return graph(
        "HTTP answers by code",
        Told(
            "HTTP responses to refresh requests a second by code, just as they came. Lost connections and time-outs "
            "have none.",
            "It is the raw view behind Answers by outcome: of use when talking to those who run the OMS or its "
            "gateway.",
        ),
        Query(f"sum by (code) ({rate('inventory_refresh_oms_responses_total')}) > 0", "{{code}}"),
        unit=REQUESTS_PER_SECOND,
        stacked=True,
        colors={"200": GREEN, "400": RED, "401": "dark-red", "403": YELLOW, "429": YELLOW, "500": ORANGE},
    )


def _items() -> AnyPanel:
    return graph(
        "Items a second",
        Told(
            "Items in requests that were sent, and in those that got a jobID. What lies between them was sent in vain "
            "and is planned anew.",
            "sent far above accepted: much is sent twice. See Answers by outcome.",
        ),
        Query(f"sum({rate('inventory_refresh_items_sent_total')})", "sent", BLUE),
        Query(f"sum({rate('inventory_refresh_items_accepted_total')})", "accepted", GREEN),
        unit=CHANGES_PER_SECOND,
    )
