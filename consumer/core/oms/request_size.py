"""How large a request's body may be: the configured limit, and a lower one that answers have taught.

A gateway says 413 without saying what it takes, so the limit is searched for between the largest body that was accepted
and the smallest that was too large. It is the planner's: what is too large is planned again with fewer items.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class RequestSize:
    """``bytes_max`` is the limit in force; None while none is known. ``credible_bytes_min``: no limit is lower."""

    bytes_max: int | None = None
    configured_bytes_max: int | None = None
    """The part of the limit that is certain. What is learned may be too low by half."""
    credible_bytes_min: int = 4_096
    accepted_bytes: int = 0
    """The largest body that was accepted."""

    def bytes_max_for(self, *, can_shrink: bool) -> int | None:
        """The limit of a request. What cannot be planned smaller is tried although the learned limit is exceeded."""
        return self.bytes_max if can_shrink else self.configured_bytes_max

    def is_credible(self, body_bytes: int) -> bool:
        """Whether a body of this size can be too large for anybody. If not, a gateway says it for another reason."""
        return body_bytes > self.credible_bytes_min

    def on_accepted(self, body_bytes: int) -> None:
        self.accepted_bytes = max(self.accepted_bytes, body_bytes)

    def on_too_large(self, body_bytes: int) -> None:
        """A body of this size was answered 413: lower the limit."""
        if self.accepted_bytes >= body_bytes:
            self.accepted_bytes = 0  # whatever took it is no longer there
        learned = max(self.accepted_bytes, body_bytes // 2, self.credible_bytes_min)
        self.bytes_max = learned if self.bytes_max is None else min(self.bytes_max, learned)
