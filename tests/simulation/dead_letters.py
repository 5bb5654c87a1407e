"""``ports.DeadLetters`` on the simulated broker: fetching originals and confirming dead letters take time."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from consumer.core.changes.items import ChangeId
from consumer.errors import DeadLettersError
from consumer.ports import Assignment, FailedChanges, Reject

if TYPE_CHECKING:
    from tests.simulation.process import Process


class SimulatedDeadLetters:
    """The dead-letter producer of one process, and its fetcher of originals."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._confirmed: list[ChangeId] = []
        self._fetching = 0
        self._failed = False

    def publish(self, rejects: Sequence[Reject], assignments: Mapping[int, Assignment]) -> None:
        self._process.enter()
        for reject in rejects:
            assignment = assignments.get(reject.change_id.assignment_id)
            if assignment is not None:
                self._process.checker.rejected(assignment.partition, reject.change_id)
                self._produce(reject.change_id, assignment.partition)

    def fetch_and_publish(self, changes: Sequence[FailedChanges]) -> None:
        self._process.enter()
        for change in changes:
            self._process.checker.changes_failed(change, self._process.refusals)
            for change_id in change.change_ids:
                self._fetching += 1
                self._fetch(change_id, change.partition)

    def fetching(self) -> int:
        return self._fetching

    def confirmed(self) -> Sequence[ChangeId]:
        self._process.enter()
        if self._failed:
            raise DeadLettersError("a dead letter cannot be delivered")
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def close(self) -> None:
        return None

    def _fetch(self, change_id: ChangeId, partition: int) -> None:
        def fetched() -> None:
            self._fetching -= 1
            self._produce(change_id, partition)

        self._process.after(self._process.latency(), fetched)

    def _produce(self, change_id: ChangeId, partition: int) -> None:
        if self._process.by_chance(self._process.rates.undeliverable):
            self._process.after(self._process.latency(), self._fail)
        else:
            self._process.after(self._process.latency(), lambda: self._deliver(change_id, partition))

    def _deliver(self, change_id: ChangeId, partition: int) -> None:
        """The broker has the dead letter now; the confirmation comes later, or never if the process is killed first."""
        self._process.note("dead letter of %d@%d, line %d", partition, change_id.offset, change_id.line)
        self._process.broker.dead_letters.add((partition, *change_id[1:]))
        self._process.checker.dead_lettered(partition, change_id)
        self._process.after(self._process.latency(), lambda: self._confirmed.append(change_id))

    def _fail(self) -> None:
        self._failed = True
