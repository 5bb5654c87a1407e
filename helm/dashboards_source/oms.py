"""The answers of the OMS, and the outcome of its jobs."""

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
    Description,
    Query,
    graph,
    limit,
    of,
    quantile,
    rate,
)

TITLE = "OMS: answers and jobs"

OUTCOMES = {
    "accepted": GREEN,
    "applied": "dark-green",
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
"""Colour by outcome: green is success, yellow and orange are temporary, red needs an operator."""


def panels() -> list[AnyPanel]:
    """Answers, then jobs, then the load on the OMS."""
    return [_answers(), _seconds(), _failures(), _ended(), _unfinished(), _job_seconds(), _calls(), _codes(), _items()]


def _answers() -> AnyPanel:
    return graph(
        "Answers by outcome",
        Description(
            "Answers to refresh requests per second, by outcome (docs/oms-answers.md): accepted is a jobID, applied is "
            "smart refresh.",
            "unavailable, over_quota: temporary, the changes are sent again later. unknown, unreadable: the "
            "request may have been queued; its location is held for oms.unknown_hold. refused: items are "
            "wrong. forbidden, wrong_address, gateway_page: for one location, it is set aside. For all, and for "
            "unauthorised, an operator must fix credentials, permission or "
            "oms.base_url.",
            alerts=(
                "InventoryRefreshOmsUnavailable",
                "InventoryRefreshRequestsRefused",
                "InventoryRefreshLocationSetAside",
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
        Description(
            "From the submission of a request to its answer, including the wait for a connection.",
            "Close to oms.timeout (30 s by default): the OMS or the connection is slow, and outcomes will be "
            "unknown. Inform its operators; a longer timeout only helps if answers do come.",
        ),
        Query(quantile(0.5, seconds), "median", GREEN),
        Query(quantile(0.95, seconds), "95 %", YELLOW),
        Query(quantile(0.99, seconds), "99 %", ORANGE),
        unit=units.Seconds,
    )


def _failures() -> AnyPanel:
    state = "inventory_refresh_oms_breaker_state"
    opened, half_open = of(state, 'state="open"'), of(state, 'state="half_open"')
    return graph(
        "Failures in a row and circuit breakers",
        Description(
            "How often the OMS as a whole has failed since its last jobID (the worst member), and how many "
            "members have an open or half-open breaker.",
            "Growing: the OMS is down, and is probed less and less often (at least every oms.backoff_max). It "
            "drops to 0 with the first jobID.",
        ),
        Query(f"max({of('inventory_refresh_oms_consecutive_failures')})", "failures in a row", ORANGE),
        Query(f"sum({opened})", "members with an open breaker", RED),
        Query(f"sum({half_open})", "half-open", YELLOW),
        unit=units.Short,
        decimals=0,
    )


def _ended() -> AnyPanel:
    return graph(
        "Ended jobs",
        Description(
            "Accepted jobs per second that ended, by outcome: success is applied. For never_finished and "
            "unknown_job the OMS does not say what became of them.",
            "failed: their changes are dead letters with the jobID; ask the operators of the OMS why. "
            "unknown_job: the OMS lost jobs that it had accepted.",
            alerts=(
                "InventoryRefreshManyJobsFailed",
                "InventoryRefreshJobsNeverFinished",
            ),
        ),
        Query(f"sum by (outcome) ({rate('inventory_refresh_jobs_ended_total')}) > 0", "{{outcome}}"),
        unit=REQUESTS_PER_SECOND,
        stacked=True,
        colors={"success": GREEN, "failed": RED, "never_finished": PURPLE, "unknown_job": ORANGE},
    )


def _unfinished() -> AnyPanel:
    return graph(
        "Unfinished jobs",
        Description(
            "Accepted jobs that have not ended yet: our share of the OMS's queue. Also the number of members "
            "that cannot get the status of jobs (refused, over quota, unreachable), and of those that send "
            "nothing because too many of their jobs are unfinished (oms.unfinished_jobs_max).",
            "Growing: the OMS processes less than it is sent, so counts are stale although they were "
            "accepted. Fewer, larger requests help (window.max_age, window.flush_items: auto); otherwise the "
            "OMS needs more capacity.",
            alerts=("InventoryRefreshJobStatusUnavailable",),
        ),
        Query(f"sum({of('inventory_refresh_unfinished_jobs')})", "jobs", BLUE),
        Query(f"sum({of('inventory_refresh_job_status_unavailable')})", "members without job status", RED),
        Query(f"sum({of('inventory_refresh_job_queue_full')})", "members waiting for jobs to end", ORANGE),
        unit=units.Short,
        decimals=0,
    )


def _job_seconds() -> AnyPanel:
    return graph(
        "Time of a job in the OMS",
        Description(
            "95 % of the jobs waited in the OMS's queue, and were processed, for at most this long, by the "
            "OMS's clock; and how long the oldest unfinished job has been followed.",
            "Queued grows, processed does not: the OMS's queue is long (who else fills it?). Processed grows: "
            "the OMS itself has become slow. Either way, stores see their counts that much later.",
            alerts=("InventoryRefreshJobsLate",),
        ),
        Query(quantile(0.95, "inventory_refresh_job_queued_seconds"), "95 % queued", YELLOW),
        Query(quantile(0.95, "inventory_refresh_job_processing_seconds"), "95 % processed", GREEN),
        Query(f"max({of('inventory_refresh_oldest_unfinished_job_seconds')})", "oldest unfinished", RED),
        unit=units.Seconds,
    )


def _calls() -> AnyPanel:
    return graph(
        "Requests and chunks per second, and the limit",
        Description(
            "Refresh requests of all members, the chunks that the OMS has to process for them, and the "
            "allowed calls per second, as set (oms.max_requests_per_second) or learned from over-quota "
            "answers. No dashed line: no limit. Calls for the status of jobs count against the limit too.",
            "Requests stay close to the line: the key's quota is too small for so many locations. Ask for a "
            "larger one, or send fewer, larger requests (window.max_age).",
        ),
        Query(f"sum({rate('inventory_refresh_requests_sent_total')})", "requests", BLUE),
        Query(f"sum({rate('inventory_refresh_chunks_sent_total')})", "chunks", PURPLE),
        limit(f"sum({of('inventory_refresh_oms_requests_per_second_max')} < +Inf)", "limit"),
        unit=REQUESTS_PER_SECOND,
    )


def _codes() -> AnyPanel:
    return graph(
        "HTTP responses by code",
        Description(
            "HTTP responses to refresh requests per second, by status code. Lost connections and timeouts have none.",
            "This is the raw data behind Answers by outcome, useful when talking to the operators of the OMS "
            "or its gateway.",
        ),
        Query(f"sum by (code) ({rate('inventory_refresh_oms_responses_total')}) > 0", "{{code}}"),
        unit=REQUESTS_PER_SECOND,
        stacked=True,
        colors={"200": GREEN, "400": RED, "401": "dark-red", "403": YELLOW, "429": YELLOW, "500": ORANGE},
    )


def _items() -> AnyPanel:
    return graph(
        "Items per second",
        Description(
            "Items in requests that were sent, and in those that got a jobID. The difference has to be sent again.",
            "sent far above accepted: much is sent more than once. See Answers by outcome.",
        ),
        Query(f"sum({rate('inventory_refresh_items_sent_total')})", "sent", BLUE),
        Query(f"sum({rate('inventory_refresh_items_accepted_total')})", "accepted", GREEN),
        unit=CHANGES_PER_SECOND,
    )
