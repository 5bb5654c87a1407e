"""A call of the refresh endpoint that changes nothing: a body without location and items, which the OMS must refuse."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx

from consumer.core.oms.answers import Answer, AnswerKind
from consumer.oms.answers import classify, classify_error
from consumer.oms.apis import Api
from consumer.oms.clock_skew import ClockSkew
from consumer.oms.http import Endpoint
from consumer.oms.reply_parsing import read_json
from consumer.oms.token import Tokens

BODY: Final = b"{}"
PAUSES_SECONDS: Final = (0.0, 1.0, 2.0)
"""Before each attempt: a new token may be refused for a moment (rule 26 of docs/protocol.md)."""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The answer to the probe. ``is_own``: it is in the OMS's own words, and not in those of a gateway."""

    answer: Answer
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class RefreshProbe:
    """Posts ``BODY`` to the refresh endpoint."""

    endpoint: Endpoint
    tokens: Tokens
    api: Api
    clock_skew: ClockSkew
    timeout_seconds: float
    monotonic: Callable[[], float]
    wall: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep

    def send(self) -> ProbeAnswer:
        """REFUSED in the OMS's own words is what is expected; ACCEPTED means that a job exists now."""
        found = ProbeAnswer(Answer(AnswerKind.NOT_SENT))
        for pause in PAUSES_SECONDS:
            self.sleep(pause)
            found = self._send_once()
            if found.answer.kind is not AnswerKind.UNAUTHORISED:
                break
        return found

    def _send_once(self) -> ProbeAnswer:
        token = self.tokens.get()
        if isinstance(token, Answer):
            return ProbeAnswer(token)
        try:
            reply = self.endpoint.call(
                "POST",
                headers=[token.header, (b"Content-Type", b"application/json")],
                body=BODY,
                seconds_max=self.timeout_seconds,
                monotonic=self.monotonic,
            )
        except httpx.HTTPError as error:
            return ProbeAnswer(classify_error(error))
        reply = reply.without(token.value, *self.endpoint.secrets)
        self.clock_skew.observe(reply.headers, self.wall())
        answer = classify(reply.status, reply.headers, reply.body, wall=self.wall(), is_own=self.api.is_own)
        return ProbeAnswer(answer, self.api.is_own(read_json(reply.body)))
