"""The faults of ``demo --faults``, from a seed: nearly every failure of an OMS and its gateway."""

import random
from collections.abc import Sequence
from typing import Any, Final

from consumer.sandbox.oms.faults.scripted import FaultRequest

ANSWERS: Final = 60
"""Scripted answers, including regular ones. Every kind of fault occurs at least once."""
FAULTS_SHARE: Final = 0.45

_FAULTS: Final[Sequence[dict[str, Any]]] = (
    {"status": 503, "body": {"code": 5001, "message": "the OMS is unavailable"}},
    {"status": 500, "body": {"code": 5006, "message": "server error"}},
    {"status": 429, "retry_after": 1},
    {"quota": True, "retry_after": 1},
    {"status": 502, "body_text": "<h1>Bad gateway</h1>"},
    {"status": 504, "body_text": "<h1>Gateway time-out</h1>", "queue": True},
    {"reset": "before_queue"},
    {"reset": "after_queue"},
    {"close": "before_queue"},
    {"close": "after_queue"},
    {"status": 200, "body": {}},
    {"status": 200, "body": {}, "queue": True},
    {"status": 200, "body_text": '{"jobID": 0', "queue": True},
    {"hang_seconds": 0.5},
    {"job_id_style": "leading-zero"},
    {"job_id_style": "string"},
    {"stall_job": True, "stall_seconds": 3},
)
_FAILING: Final = ("Store 03", "Store 17", "Store 29")
"""The job of the first request for each of these locations fails.

It must be the first: if an earlier answer had been lost, that request may or may not have been queued, and whether the
OMS should hold the failed job's changes would be unknown."""
_REFUSED: Final[Sequence[dict[str, Any]]] = (
    {"fault": "refuse", "location": "Store 21", "item": "SKU00007"},
    {"fault": "refuse", "location": "Store 31", "item": "SKU00012", "named": False},
)
"""An item that the OMS refuses, at two locations; at the second, the answer does not say which item it is."""
_REVOKE_EVERY_SECONDS: Final = 20
"""All tokens are revoked this often, before they expire."""


def demo_faults(seed: int) -> FaultRequest:
    """The faults for this seed."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    # Each over-quota answer comes only once, since it slows the service down for minutes.
    repeatable = [fault for fault in _FAULTS if "retry_after" not in fault]
    faults = [*_FAULTS, *rng.choices(repeatable, k=round(ANSWERS * FAULTS_SHARE) - len(_FAULTS))]
    answers = [*faults, *({} for _ in range(ANSWERS - len(faults)))]
    rng.shuffle(answers)
    failing = [{"location": location, "fail_job": True} for location in _FAILING]
    return FaultRequest.model_validate(
        {
            "answers": [*failing, *answers],
            "rules": [*_REFUSED, {"fault": "revoke", "every": _REVOKE_EVERY_SECONDS}],
            "seed": seed,
        }
    )
