"""The background work of a Kafka client: heartbeats and joining the group.

Like librdkafka, it runs rebalance callbacks only when the application polls.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from tests.simulation.group import Group, MemberStatus

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Event(Enum):
    ASSIGN = auto()
    REVOKE = auto()
    LOST = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """A rebalance callback that waits for a poll; with ``rejoin`` the member joins again once it has run."""

    event: Event
    partitions: frozenset[int] = frozenset()
    rejoin: bool = False


class Membership:
    """One process's membership of the group."""

    def __init__(
        self,
        process: "Process",
        group: Group,
        *,
        heartbeat_seconds: float,
        poll_seconds_max: float,
        reachable: Callable[[], bool],
    ) -> None:
        self.process = process
        self._group = group
        self._heartbeat_seconds = heartbeat_seconds
        self._poll_seconds_max = poll_seconds_max
        self._reachable = reachable
        self.member_id = ""
        self.generation = -1
        self.owned: set[int] = set()
        self.calls: deque[Call] = deque()
        self._join_number = 0
        self._left = False
        self._rejoin_wanted = False
        self._polled_at = process.world.now

    def start(self) -> None:
        self._rejoin_wanted = True
        self._tick()

    def polled(self) -> None:
        """The application polls; this restarts the poll interval."""
        self._polled_at = self.process.world.now
        if self._left:
            self._left = False
            self._rejoin_wanted = True

    def done(self) -> None:
        """The application has handled the first callback. Until then the member does not join."""
        call = self.calls.popleft()
        match call.event:
            case Event.ASSIGN:
                self.owned |= call.partitions
            case Event.REVOKE:
                self.owned -= call.partitions
            case Event.LOST:
                self.owned.clear()
        if call.rejoin:
            self._rejoin_wanted = True
            self._join_if_wanted()

    def leave(self) -> None:
        """The application closes its consumer."""
        self._left = True
        if self._reachable():
            self._group.leave(self.member_id)
        self.member_id = ""

    # In the background

    def _tick(self) -> None:
        jitter = self.process.random.uniform(0.8, 1.0)
        self.process.after(self._heartbeat_seconds * jitter, self._tick)
        if self._left or not self._reachable():
            return
        if self.process.world.now - self._polled_at > self._poll_seconds_max:
            self.process.note("exceeds the poll interval and leaves the group")
            self._group.leave(self.member_id)
            self._lose()
            self._left = True
            return
        if self.member_id:
            match self._group.heartbeat(self.member_id):
                case MemberStatus.UNKNOWN_MEMBER:
                    self.process.note("is no longer known to the group")
                    self._lose()
                case MemberStatus.REBALANCE_IN_PROGRESS:
                    self._rejoin_wanted = True
                case _:
                    pass
        self._join_if_wanted()

    def _lose(self) -> None:
        self.member_id = ""
        self.generation = -1
        self._join_number += 1
        if self.owned or self.calls:
            self.calls.append(Call(Event.LOST, rejoin=True))
        else:
            self._rejoin_wanted = True

    def _join_if_wanted(self) -> None:
        if not self._rejoin_wanted or self.calls or self._left or not self._reachable():
            return
        self._rejoin_wanted = False
        self._join_number += 1
        self.member_id = self._group.join(self, self.member_id, self._join_number, frozenset(self.owned))
        if not self.member_id:
            self._lose()

    def on_generation(self, join: int, generation: int) -> None:
        if join == self._join_number:
            self.generation = generation

    def on_assignment(self, join: int, generation: int, partitions: frozenset[int]) -> None:
        """SyncGroup's reply. Revokes come first; the application also sees a rebalance that changes nothing."""
        if join != self._join_number:
            return
        self.generation = generation
        revoked = frozenset(self.owned - partitions)
        if revoked:
            self.calls.append(Call(Event.REVOKE, revoked))
        self.calls.append(Call(Event.ASSIGN, frozenset(partitions - self.owned), rejoin=bool(revoked)))
