"""What goes wrong in ``demo --faults``, from a seed: nearly everything that an OMS and its gateway can do."""

import random
from collections.abc import Sequence
from typing import Any, Final

from consumer.sandbox.oms.faults.scripted import FaultOrder

ANSWERS: Final = 60
"""Scripted answers; the usual ones among them. Every kind of fault comes at least once."""
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
"""The job of their first request fails. What was lost before may have been queued all the same: of another location it
could not be told whether the OMS should hold the changes of a failed job."""
_REFUSED: Final[Sequence[dict[str, Any]]] = (
    {"fault": "refuse", "location": "Store 21", "item": "SKU00007"},
    {"fault": "refuse", "location": "Store 31", "item": "SKU00012", "named": False},
)
"""An item that the OMS knows nothing of, at two locations: at the second its answer does not say which it is."""
_REVOKED_SECONDS: Final = 20
"""So often every token is revoked before its time."""


def demo_faults(seed: int) -> FaultOrder:
    """The same seed orders the same faults."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    again = [fault for fault in _FAULTS if "retry_after" not in fault]  # over-quota once of each kind: it slows us down
    faults = [*_FAULTS, *chance.choices(again, k=round(ANSWERS * FAULTS_SHARE) - len(_FAULTS))]
    answers = [*faults, *({} for _ in range(ANSWERS - len(faults)))]
    chance.shuffle(answers)
    failing = [{"location": location, "fail_job": True} for location in _FAILING]
    return FaultOrder.model_validate(
        {
            "answers": [*failing, *answers],
            "rules": [*_REFUSED, {"fault": "revoke", "every": _REVOKED_SECONDS}],
            "seed": seed,
        }
    )
