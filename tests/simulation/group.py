"""The simulated group coordinator: members, generations, cooperative rebalances, session timeouts.

It follows Kafka's classic protocol with the cooperative-sticky assignor. Members keep their partitions during a
rebalance; a partition that moves is unassigned first, and goes to its new owner in the rebalance after its revoke. A
commit counts as a heartbeat and is checked against member and generation only.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from tests.simulation.world import Strand, World, new_random


class MemberStatus(Enum):
    """The coordinator's reply to a heartbeat or commit."""

    OK = auto()
    REBALANCE_IN_PROGRESS = auto()
    UNKNOWN_MEMBER = auto()
    ILLEGAL_GENERATION = auto()


class GroupClient(Protocol):
    """A member's side of the protocol; called in the background of its process, while that runs."""

    @property
    def process(self) -> Strand: ...

    def on_generation(self, join: int, generation: int) -> None: ...

    def on_assignment(self, join: int, generation: int, partitions: frozenset[int]) -> None: ...


class _Phase(Enum):
    STABLE = auto()
    PREPARING = auto()
    COMPLETING = auto()


@dataclass(eq=False, slots=True)
class _Member:
    id: str
    client: GroupClient
    heard_at: float
    join: int
    """Number of the client's latest JoinGroup, returned to it in replies."""
    owned: frozenset[int]
    joined: bool = True


class Group:
    """One consumer group with one topic."""

    def __init__(
        self, world: World, seed: int, partitions: int, *, session_seconds: float, rebalance_seconds: float
    ) -> None:
        self._world = world
        self._random = new_random(seed, "group")
        self._partitions = range(partitions)
        self._session_seconds = session_seconds
        self._rebalance_seconds = rebalance_seconds
        self._members: dict[str, _Member] = {}
        self._members_made = 0
        self._phase = _Phase.STABLE
        self._rebalance = 0
        self._generation = 0
        self._moving: set[int] = set()

    # Requests of members

    def join(self, client: GroupClient, member_id: str, join: int, owned: frozenset[int]) -> str:
        """JoinGroup. Returns the member's id: a new one if it had none, "" if the group no longer knows it."""
        if member_id and member_id not in self._members:
            return ""
        member = self._members.get(member_id)
        if member is None:
            self._members_made += 1
            member_id = f"{client.process.name}-{self._members_made}"
            member = self._members[member_id] = _Member(member_id, client, self._world.now, join, owned)
            self._world.after(self._session_seconds, lambda: self._check_session(member))
        member.join, member.owned, member.joined = join, owned, True
        member.heard_at = self._world.now
        if self._phase is not _Phase.PREPARING:
            self._prepare(member)
        self._complete_soon()
        return member_id

    def leave(self, member_id: str) -> None:
        if member_id in self._members:
            self._remove(member_id, "leaves")

    def heartbeat(self, member_id: str) -> MemberStatus:
        member = self._members.get(member_id)
        if member is None:
            return MemberStatus.UNKNOWN_MEMBER
        member.heard_at = self._world.now
        if self._phase is _Phase.PREPARING and not member.joined:
            return MemberStatus.REBALANCE_IN_PROGRESS
        return MemberStatus.OK

    def status(self, member_id: str, generation: int) -> MemberStatus:
        """Whether a commit of this member is accepted; if it is, it counts as a heartbeat."""
        member = self._members.get(member_id)
        if member is None:
            return MemberStatus.UNKNOWN_MEMBER
        if generation != self._generation:
            return MemberStatus.ILLEGAL_GENERATION
        if self._phase is _Phase.COMPLETING:
            return MemberStatus.REBALANCE_IN_PROGRESS
        member.heard_at = self._world.now
        return MemberStatus.OK

    def move(self, partition: int) -> None:
        """Start a rebalance in which this partition gets another owner."""
        self._moving.add(partition)
        if self._phase is _Phase.STABLE and self._members:
            self._prepare(None)

    # Rebalances

    def _prepare(self, first: _Member | None) -> None:
        """Start a rebalance: every member must join again."""
        self._phase = _Phase.PREPARING
        self._rebalance += 1
        rebalance = self._rebalance
        for member in self._members.values():
            member.joined = member is first
        self._world.after(self._rebalance_seconds, lambda: self._give_up_on_late(rebalance))

    def _give_up_on_late(self, rebalance: int) -> None:
        if self._phase is _Phase.PREPARING and rebalance == self._rebalance:
            for member in [member for member in self._members.values() if not member.joined]:
                self._remove(member.id, "did not join in time")

    def _complete_soon(self) -> None:
        rebalance = self._rebalance
        if self._all_joined():
            self._world.after(self._random.uniform(0.0, 0.3), lambda: self._complete(rebalance))

    def _all_joined(self) -> bool:
        return bool(self._members) and all(member.joined for member in self._members.values())

    def _complete(self, rebalance: int) -> None:
        """Start a new generation; one of its members assigns the partitions (SyncGroup)."""
        if self._phase is not _Phase.PREPARING or rebalance != self._rebalance or not self._all_joined():
            return
        self._generation += 1
        self._phase = _Phase.COMPLETING
        members = list(self._members.values())
        for member in members:
            member.heard_at = self._world.now
            self._send_generation(member)
        leader = self._random.choice(members)
        leader.client.process.after(self._random.uniform(0.0, 0.5), lambda: self._sync(rebalance))

    def _sync(self, rebalance: int) -> None:
        if self._phase is not _Phase.COMPLETING or rebalance != self._rebalance or not self._members:
            return
        self._phase = _Phase.STABLE
        assigned = self._assign()
        shown = {member: sorted(partitions) for member, partitions in assigned.items()}
        self._world.note("group", "generation %d: %s", self._generation, shown)
        for member_id, partitions in assigned.items():
            self._send_assignment(self._members[member_id], frozenset(partitions))

    def _send_generation(self, member: _Member) -> None:
        join, generation = member.join, self._generation
        member.client.process.after(
            self._random.uniform(0.0, 0.2), lambda: member.client.on_generation(join, generation)
        )

    def _send_assignment(self, member: _Member, partitions: frozenset[int]) -> None:
        join, generation = member.join, self._generation
        member.client.process.after(
            self._random.uniform(0.0, 0.2), lambda: member.client.on_assignment(join, generation, partitions)
        )

    def _assign(self) -> dict[str, set[int]]:
        """Members keep their partitions up to their share; the rest is left unassigned, to be revoked first."""
        members = sorted(self._members.values(), key=lambda member: (-len(member.owned), member.id))
        share, more = divmod(len(self._partitions), len(members))
        assigned: dict[str, set[int]] = {}
        for at, member in enumerate(members):
            keeps = [partition for partition in sorted(member.owned) if partition not in self._moving]
            assigned[member.id] = set(keeps[: share + (at < more)])
        claimed = set().union(*(member.owned for member in members))
        for partition in sorted(set(self._partitions) - claimed):
            fewest = min(len(partitions) for partitions in assigned.values())
            chosen = self._random.choice([name for name, has in assigned.items() if len(has) == fewest])
            assigned[chosen].add(partition)
        self._moving.clear()
        return assigned

    # Members that leave or time out

    def _check_session(self, member: _Member) -> None:
        if self._members.get(member.id) is not member:
            return
        waits = self._phase is _Phase.PREPARING and member.joined
        if not waits and member.heard_at + self._session_seconds <= self._world.now:
            self._remove(member.id, "session timed out")
            return
        at = max(member.heard_at, self._world.now - 0.9 * self._session_seconds) + self._session_seconds
        self._world.at(at, lambda: self._check_session(member))

    def _remove(self, member_id: str, why: str) -> None:
        self._world.note("group", "%s: %s", member_id, why)
        del self._members[member_id]
        if self._phase is not _Phase.PREPARING and self._members:
            self._prepare(None)
        self._complete_soon()
