"""Asking members where an item is."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx
from pydantic import ValidationError

from consumer.observe.status import api

ANSWER_SECONDS_MAX: Final = 5.0
"""For a call; a member answers within two seconds, or says that it cannot."""
CALLS_MAX: Final = 4
"""A member answers one question a turn: one that is busy is asked again."""
PAUSE_SECONDS: Final = 1.0
THREADS: Final = 8
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
_COLUMNS: Final = {"partNumber": "part_number", "upc": "upc", "sku": "sku"}


@dataclass(frozen=True, slots=True)
class MemberAnswer:
    """What a member says; ``problem`` says why there is no answer, and is None if there is one."""

    url: str
    trace: api.Trace | None = None
    problem: str | None = None


def ask_members(urls: Sequence[str], location: str, identifiers: dict[str, str]) -> list[MemberAnswer]:
    """Ask all of them at the same time. ``identifiers`` are by column."""
    parameters = {"location": location} | {_COLUMNS[name]: value for name, value in identifiers.items()}
    # The addresses are those of pods and port-forwards, so no proxy is used.
    with httpx.Client(timeout=ANSWER_SECONDS_MAX, trust_env=False) as client, ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda url: _ask(client, url, parameters), urls))


def _ask(client: httpx.Client, url: str, parameters: dict[str, str]) -> MemberAnswer:
    problem = ""
    for call in range(CALLS_MAX):
        try:
            answer = client.get(f"{url}/api/trace", params=parameters)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return MemberAnswer(url, problem=f"does not answer: {str(error) or type(error).__name__}")
        if answer.status_code == httpx.codes.OK and len(answer.content) <= ANSWER_BYTES_MAX:
            try:
                return MemberAnswer(url, api.Trace.model_validate_json(answer.content))
            except ValidationError:
                return MemberAnswer(url, problem="answers, but not as this version does")
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return MemberAnswer(url, problem=f"answers with HTTP {answer.status_code}: not a member of this version")
        problem = f"is busy: {answer.text.strip()}"
        if call < CALLS_MAX - 1:
            time.sleep(PAUSE_SECONDS)
    return MemberAnswer(url, problem=problem)
