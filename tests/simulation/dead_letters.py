"""``ports.DeadLetters`` on the simulated broker: confirmed late, found again late."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from consumer.errors import DeadLettersError
from consumer.ports import Assignment, FailedChanges, Reject

if TYPE_CHECKING:
    from tests.simulation.process import Process


class SimulatedDeadLetters:
    """The producer of one process, and what looks for sent changes in their topic."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._confirmed: list[tuple[int, int]] = []
        self._recalling = 0
        self._failed = False

    def publish(self, rejects: Sequence[Reject], assignments: Mapping[int, Assignment]) -> None:
        self._process.enter()
        for reject in rejects:
            assignment = assignments.get(reject.assignment)
            if assignment is not None:
                self._process.checker.rejected(assignment.partition, reject.offset)
                self._produce(reject.assignment, assignment.partition, reject.offset)

    def recall(self, changes: Sequence[FailedChanges]) -> None:
        self._process.enter()
        for change in changes:
            self._process.checker.condemned(change.partition, change.offsets)
            for offset in change.offsets:
                self._recalling += 1
                self._find(change, offset)

    def fetching(self) -> int:
        return self._recalling

    def confirmed(self) -> Sequence[tuple[int, int]]:
        self._process.enter()
        if self._failed:
            raise DeadLettersError("a dead letter cannot be delivered")
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def close(self) -> None:
        return None

    def _find(self, change: FailedChanges, offset: int) -> None:
        def found() -> None:
            self._recalling -= 1
            self._produce(change.assignment, change.partition, offset)

        self._process.after(self._process.latency(), found)

    def _produce(self, assignment: int, partition: int, offset: int) -> None:
        if self._process.by_chance(self._process.rates.undeliverable):
            self._process.after(self._process.latency(), self._fail)
        else:
            self._process.after(self._process.latency(), lambda: self._deliver(assignment, partition, offset))

    def _deliver(self, assignment: int, partition: int, offset: int) -> None:
        """The broker has it from here on; its word comes later, or never, if the process dies before."""
        self._process.note("dead letter of %d@%d", partition, offset)
        self._process.checker.dead_lettered(partition, offset)
        self._process.after(self._process.latency(), lambda: self._confirmed.append((assignment, offset)))

    def _fail(self) -> None:
        self._failed = True
