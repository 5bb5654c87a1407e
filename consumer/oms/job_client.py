"""Get-job calls, beside the loop: how far the OMS has got with a job, each question answered exactly once."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, Final

import httpx

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_schedule import JobReport, JobStatus
from consumer.oms.answers import classify_error
from consumer.oms.http import call
from consumer.oms.reply_parsing import (
    is_over_quota,
    read_code,
    read_job_id,
    read_json,
    read_retry_after,
    read_words,
    shortened,
    write_json,
)
from consumer.oms.token import Tokens

WORKERS: Final = 2
"""Calls at once: as many as ``core.jobs`` has under way."""
CALL_SECONDS_MAX: Final = 15.0
"""A question that takes longer is asked again later; nothing waits for it."""
CLOSE_SECONDS_MAX: Final = 2.0
"""Closing waits so long for calls under way; nobody reads their answers any more."""
REPLY_BYTES_MAX: Final = 2 * 1024 * 1024
"""Room for a message an item of the largest request."""
MESSAGES_MAX: Final = 20
"""Messages kept of a job, each as long as any words of the OMS; the one after tells how many more there were."""

_TOO_DEEP: Final = "a message that nests too deep to be shown"

_CALLS_MAX: Final = 2
"""A question is asked twice at most: again only after a 401, with a new token."""
_NO_SUCH_JOB_CODES: Final = (5002, 5012, 5013)
"""The OMS's own codes for not found, id mismatch and invalid id."""


class HttpJobs:
    """``ports.JobClient`` over HTTP. It shares connections and tokens with the refresh client, which makes it."""

    def __init__(
        self,
        http: httpx.Client,
        tokens: Tokens,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout_seconds: float,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """``url`` is the address of a job without its jobID; ``headers`` go with each call."""
        self._http = http
        self._tokens = tokens
        self._url = url
        self._headers = headers
        self._timeout_seconds = min(timeout_seconds, CALL_SECONDS_MAX)
        self._monotonic = monotonic
        self._wall = wall
        self._asked: SimpleQueue[str | None] = SimpleQueue()
        self._changed = threading.Lock()
        self._reports: list[JobReport] = []
        self._failure: BaseException | None = None
        self._closed = False
        self._workers = [
            threading.Thread(target=self._work, name=f"oms-jobs-{number}", daemon=True)
            for number in range(1, WORKERS + 1)
        ]
        for worker in self._workers:
            worker.start()

    # ports.JobClient

    def ask(self, job_id: str) -> None:
        if self._closed:
            raise RuntimeError("the client is closed")
        self._asked.put(job_id)

    def reports(self) -> list[JobReport]:
        """The reports that have come, without waiting.

        Raises what a worker met and nobody foresaw, in place of that report: a bug, as by ``ports``.
        """
        with self._changed:
            reports, self._reports = self._reports, []
            if not reports and self._failure:
                raise self._failure
            return reports

    def close(self) -> None:
        """Ask nothing more. May be called again."""
        if self._closed:
            return
        self._closed = True
        for _ in self._workers:
            self._asked.put(None)
        deadline = self._monotonic() + CLOSE_SECONDS_MAX
        for worker in self._workers:
            worker.join(max(deadline - self._monotonic(), 0.0))

    # In a worker's thread

    def _work(self) -> None:
        while (job_id := self._asked.get()) and not self._closed:
            try:
                report = self._report(job_id)
            except BaseException as error:  # noqa: BLE001 - raised again by reports(), on the loop's thread
                with self._changed:
                    self._failure = self._failure or error
                continue
            with self._changed:
                self._reports.append(report)

    def _report(self, job_id: str) -> JobReport:
        report = JobReport(job_id)
        for _ in range(_CALLS_MAX):
            token = self._tokens.get()
            if isinstance(token, Answer):
                # Why there is no token says nothing about the path of jobs, so its HTTP code is left out.
                return JobReport(
                    job_id,
                    detail=token.detail,
                    over_quota=token.kind is AnswerKind.OVER_QUOTA,
                    retry_after_seconds=token.retry_after_seconds,
                )
            try:
                reply = call(
                    self._http,
                    "GET",
                    self._url + job_id,
                    headers={**self._headers, "Authorization": f"Bearer {token.value}"},
                    body=None,
                    seconds_max=self._timeout_seconds,
                    monotonic=self._monotonic,
                    reply_bytes_max=REPLY_BYTES_MAX,
                )
            except httpx.HTTPError as error:
                return JobReport(job_id, detail=classify_error(error).detail)
            reply = reply.without(token.value)
            report = read_report(job_id, reply.status, reply.headers, reply.body, wall=self._wall())
            if reply.status != 401:
                # A 403 is not counted against the token: the key may do without get-job, and refresh all the same.
                return report
            self._tokens.drop(token)
        return report


def read_report(job_id: str, status: int, headers: Mapping[str, str], body: bytes, *, wall: float) -> JobReport:
    """What this response says of the job.

    ``headers`` are looked up as HTTP does, whatever the case (httpx.Headers); ``body`` may be cut off at the caller's
    limit; ``wall`` is the time in seconds since 1970, against which a date in Retry-After is read.
    """
    content = read_json(body)
    if 200 <= status <= 299:
        return _read_job(job_id, status, content, read_words({}, content, body))
    return JobReport(
        job_id,
        unknown=_is_no_such_job(status, content),
        detail=f"HTTP {status}: {read_words(headers, content, body)}",
        over_quota=is_over_quota(status, headers),
        retry_after_seconds=read_retry_after(headers, wall),
        http_status=status,
    )


def _read_job(job_id: str, status: int, content: Any, words: str) -> JobReport:
    """The job that a 2xx shows; nothing usable where it shows none, or another, or a status of no known name."""
    if not isinstance(content, dict):
        return JobReport(job_id, detail=f"HTTP {status} without a job: {words}", http_status=status)
    shown = read_job_id(content)
    if shown and shown != job_id:
        return JobReport(job_id, detail=f"the OMS shows job {shown} for job {job_id}", http_status=status)
    name = content.get("status")
    known = name.strip().upper() if isinstance(name, str) else ""
    if known not in JobStatus.__members__:
        return JobReport(job_id, detail=f"a job of no known status: {words}", http_status=status)
    return JobReport(
        job_id,
        JobStatus(known),
        added=_read_time(content.get("added")),
        started=_read_time(content.get("started")),
        finished=_read_time(content.get("finished")),
        messages=_read_messages(content.get("messages")),
        http_status=status,
    )


def _is_no_such_job(status: int, content: Any) -> bool:
    """Whether it is the OMS that knows of no such job, and not a gateway that knows of no such path."""
    if status == 404:
        return isinstance(content, dict)
    return status == 400 and read_code(content) in _NO_SUCH_JOB_CODES


def _read_time(value: object) -> float | None:
    """Seconds since 1970 of a time in ISO 8601, which is UTC where it does not say.

    Earlier times are none: programs write the year 1 where they mean "not yet".
    """
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return seconds if seconds > 0 else None


def _read_messages(value: object) -> tuple[str, ...]:
    """The messages of a job, at most ``MESSAGES_MAX`` and then how many more there were; one text counts as one."""
    found = value if isinstance(value, list) else [value] if value else []
    words = [each if isinstance(each, str) else write_json(each) or _TOO_DEEP for each in found[:MESSAGES_MAX]]
    more = len(found) - MESSAGES_MAX
    return (*map(shortened, words), *([f"and {more} more messages"] if more > 0 else []))
