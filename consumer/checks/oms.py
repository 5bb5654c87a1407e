"""The OMS: token, refresh endpoint, get-job, clock."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Final, TypeVar

from consumer.checks.findings import Finding, failed, ok, skipped, warning
from consumer.core.oms.answers import AnswerKind
from consumer.core.oms.job_list import JobList, ListQuery
from consumer.core.oms.job_schedule import JobReport
from consumer.errors import OmsRefusedError
from consumer.oms.client import HttpRefreshClient, build_client
from consumer.oms.clock_skew import SKEW_SECONDS_MAX
from consumer.oms.job_client import HttpJobClient
from consumer.oms.probe import ProbeAnswer
from consumer.settings import Credentials, Settings

JOB_ID: Final = "1"
"""Asked about only to see whether get-job answers; the OMS may well not know it."""
POLL_SECONDS: Final = 0.02

Report = TypeVar("Report", JobReport, JobList)

_ADVICE: Final = {
    AnswerKind.REFUSED: "something in front of the OMS answers: check oms.base_url, oms.headers and its access rules",
    AnswerKind.GATEWAY_PAGE: "something in front of the OMS answers: check oms.base_url, oms.headers and its access "
    "rules",
    AnswerKind.UNAUTHORISED: "the token is refused: check that oms.token_url, oms.base_url and oms.api are of the same "
    "OMS",
    AnswerKind.FORBIDDEN: "have this API key permitted to refresh inventory, or correct oms.api",
    AnswerKind.WRONG_ADDRESS: "correct oms.base_url or oms.api",
}
_ADVICE_OTHERWISE: Final = "check oms.base_url, the network and oms.proxy, and try again later"


def check_oms(settings: Settings, credentials: Credentials | None, wall: Callable[[], float]) -> list[Finding]:
    """All checks of the OMS. Raises SettingsError if a certificate file or a proxy cannot be used."""
    oms = settings.oms
    with closing(
        build_client(
            oms,
            settings.window.item_key,
            monotonic=time.monotonic,
            wall=wall,
            fence_seconds=0.0,
            credentials=credentials,
        )
    ) as client:
        token = check_token(client, oms.token_url)
        if token.error is not None:
            return [token, *(skipped(name, "not asked without a token") for name in ("refresh", "jobs", "clock"))]
        refreshes = [judge_refresh(client.probe(), oms.base_url)]
        if oms.endpoint == "smart-refresh":
            refreshes.append(judge_smart_refresh(client.probe(smart=True)))
        jobs = skipped("jobs", "oms.track_jobs is off") if client.jobs is None else check_jobs(client.jobs)
        return [token, *refreshes, jobs, judge_clock(client.clock_skew_seconds)]


def check_token(client: HttpRefreshClient, token_url: str) -> Finding:
    """Get a token, as the service does when it starts."""
    try:
        unreachable = client.check_credentials()
    except OmsRefusedError as error:
        return failed("token", str(error), None)
    if unreachable is not None:
        return failed("token", unreachable, "check oms.token_url, the network and oms.proxy")
    return ok("token", f"given by {token_url}")


def judge_refresh(probe: ProbeAnswer, base_url: str) -> Finding:
    """Only the OMS's own refusal of the empty body is ok."""
    answer = probe.answer
    status = f"HTTP {answer.status}: " if answer.status else ""
    said = f"{base_url}: {status}{answer.detail}"
    match answer.kind:
        case AnswerKind.REFUSED if probe.is_own:
            return ok("refresh", f"{base_url} refuses an empty request, as it must (HTTP {answer.status})")
        case AnswerKind.ACCEPTED:
            line = f"{base_url} accepted an empty request, as job {answer.job_id}: that is not how the OMS answers"
            return warning("refresh", line, "check what answers at oms.base_url")
        case AnswerKind.OVER_QUOTA:
            return warning("refresh", said, "check again later, or set oms.max_requests_per_second")
        case kind:
            return failed("refresh", said, _ADVICE.get(kind, _ADVICE_OTHERWISE))


def judge_smart_refresh(probe: ProbeAnswer) -> Finding:
    """As for refresh, but the service goes on without it."""
    answer = probe.answer
    if answer.kind is AnswerKind.REFUSED and probe.is_own:
        return ok("smart_refresh", f"refuses an empty request, as it must (HTTP {answer.status})")
    said = f"HTTP {answer.status}: {answer.detail}" if answer.status else answer.detail
    advice = "have smart refresh enabled for this key, or set oms.endpoint: refresh; until then refresh is used"
    return warning("smart_refresh", said, advice)


def check_jobs(jobs: HttpJobClient) -> Finding:
    """Ask about a job, and for a list of jobs if the API has one."""
    jobs.ask(JOB_ID)
    report = _first(jobs.reports)
    if not (report.status is not None or report.unknown) or not jobs.has_lists:
        return judge_jobs(report)
    jobs.ask_list(ListQuery())
    return judge_jobs(report, _first(jobs.lists))


def judge_jobs(report: JobReport, listed: JobList | None = None) -> Finding:
    """An unknown job is as good an answer as a known one; ``listed`` is None without a list of jobs."""
    advice = "have this API key permitted to get jobs, or set oms.track_jobs: false: failed jobs then go unnoticed"
    if report.status is None and not report.unknown:
        return warning("jobs", f"get-job does not answer: {report.detail}", advice)
    if listed is not None and listed.jobs is None:
        return warning("jobs", f"get-job answers, but the list of jobs does not: {listed.detail}", advice)
    return ok("jobs", "get-job answers" if listed is None else "get-job and the list of jobs answer")


def judge_clock(skew_seconds: float | None) -> Finding:
    """How far the OMS's clock is ahead; None if it sent no date."""
    if skew_seconds is None:
        return skipped("clock", "no answer of the OMS has a Date header")
    if abs(skew_seconds) > SKEW_SECONDS_MAX:
        direction = "ahead of" if skew_seconds > 0 else "behind"
        line = f"the OMS's clock is {abs(skew_seconds):.0f} s {direction} this machine's"
        return warning("clock", line, "correct this machine's clock, or report it to the operator of the OMS")
    return ok("clock", f"within {max(abs(skew_seconds), 1):.0f} s of the OMS's")


def _first(take: Callable[[], list[Report]]) -> Report:
    """The answer to the only question asked, which comes within the call's time."""
    while not (reports := take()):
        time.sleep(POLL_SECONDS)
    return reports[0]
