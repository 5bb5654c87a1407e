"""Fault rules of what stands around the OMS: gateways that stop calls, its token endpoint, its clock."""

import json
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from consumer.sandbox.oms.faults.base import RULE_SECONDS_MAX, DelaySeconds, Rule, Text
from consumer.sandbox.oms.faults.outcome import CannedAnswer


class Ripen(Rule):
    """Each new token is refused for some seconds after it was issued."""

    fault: Literal["ripen"] = "ripen"
    seconds: DelaySeconds


class Scope(Rule):
    """Token requests must name a scope; others are answered 400 ``invalid_scope``."""

    fault: Literal["scope"] = "scope"
    value: Text


class Skew(Rule):
    """The OMS's clock, in the Date header of its answers, is ahead by ``seconds``, or behind if they are negative."""

    fault: Literal["skew"] = "skew"
    seconds: float = Field(ge=-RULE_SECONDS_MAX, le=RULE_SECONDS_MAX, allow_inf_nan=False)


class GatewayRule(Rule):
    """A gateway in front of the OMS stops some calls with a page of its own; the OMS never sees them."""

    def stops(self, headers: Mapping[str, str], body: bytes | None) -> bool:
        """True if the call is not passed on; ``headers`` ignore case, ``body`` is None before it was read."""
        raise NotImplementedError

    def page(self) -> CannedAnswer:
        """The answer to a call that is not passed on."""
        raise NotImplementedError


class Block(GatewayRule):
    """A firewall answers refresh requests whose body contains a text with 403 and its own page."""

    fault: Literal["block"] = "block"
    contains: Text
    status: int = Field(default=403, ge=400, le=499)

    def stops(self, headers: Mapping[str, str], body: bytes | None) -> bool:  # noqa: ARG002 - as in the parent class
        """True if the text is in the body."""
        return body is not None and self.contains.encode() in body

    def page(self) -> CannedAnswer:
        """The firewall's page."""
        return _page(self.status, "Request blocked")


class BodyLimit(GatewayRule):
    """A gateway answers refresh requests with more than ``size`` bytes with 413 and its own page."""

    fault: Literal["body_limit"] = "body_limit"
    size: int = Field(ge=1)
    """In bytes."""

    def stops(self, headers: Mapping[str, str], body: bytes | None) -> bool:  # noqa: ARG002 - as in the parent class
        """True if the body is larger."""
        return body is not None and len(body) > self.size

    def page(self) -> CannedAnswer:
        """The gateway's page."""
        return _page(413, "Request Entity Too Large")


class RequireHeader(GatewayRule):
    """A gateway answers calls of refresh and get-job without a certain header with 401 and words of its own."""

    fault: Literal["require_header"] = "require_header"
    name: Text
    value: str | None = None
    """None: any value."""

    def stops(self, headers: Mapping[str, str], body: bytes | None) -> bool:  # noqa: ARG002 - as in the parent class
        """True if the header is missing, or has another value."""
        given = headers.get(self.name)
        return given is None or (self.value is not None and given != self.value)

    def page(self) -> CannedAnswer:
        """The gateway's answer."""
        body = {"statusCode": 401, "message": "Access denied due to missing subscription key."}
        return CannedAnswer(401, json.dumps(body).encode())


def _page(status: int, title: str) -> CannedAnswer:
    return CannedAnswer(status, f"<html><body><h1>{status} {title}</h1></body></html>".encode(), "text/html")
