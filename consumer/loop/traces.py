"""Answers where an item's changes are: from the engine's state, and from a memory of what has left.

It is an observer, so that what it remembers costs no code in the loop, and the loop lets it answer one question a turn.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

import polars as pl

from consumer.core.changes.items import ASSIGNMENT, CHANGE_ID, IDENTIFIERS, LINE, LOCATION, OFFSET, RejectReason
from consumer.core.engine import Engine
from consumer.core.location.views import location_views
from consumer.core.oms.answers import Accepted, AnswerKind
from consumer.core.trace.answer import FailedRequest, ItemTrace
from consumer.core.trace.memory import DETAIL_CHARACTERS_MAX, Fate, Outcome, Partition, TraceMemory
from consumer.core.trace.pending import pending_item
from consumer.core.trace.query import ItemQuery
from consumer.facts import (
    ChangesDeadLettered,
    ChangesDecoded,
    Fact,
    JobEnded,
    PartitionsAssigned,
    RequestAnswered,
    RequestSent,
)
from consumer.mailbox import Mailbox
from consumer.ports import Assignment, Clock, FailedChanges, Reject, x_request_id
from consumer.text import one_line

ASSIGNMENTS_MAX: Final = 10_000
"""Assignments whose partition is remembered after they have ended: requests with changes of theirs may be in flight."""
FAILED_MAX: Final = 1_000
"""Locations of which the last request is remembered that was not accepted: about 0.5 kB each."""

REJECT_GROUPS_MAX: Final = 100
"""Of a batch, rejects of this many locations and kinds are remembered. The dead-letter topic has them all."""
_REASON: Final = "_reason"
_DETAIL: Final = "_detail"


class Traces:
    """An observer that remembers, and answers questions; both on the loop's thread."""

    def __init__(
        self,
        questions: Mailbox[ItemQuery, ItemTrace],
        engine: Engine,
        clock: Clock,
        *,
        item_key: Sequence[str],
        bytes_max: int,
        instance: str,
        follows_jobs: bool,
    ) -> None:
        """``bytes_max`` bounds what is remembered of changes that have left."""
        self._questions = questions
        self._engine = engine
        self._clock = clock
        self._item_key = tuple(item_key)
        self._instance = instance
        self._follows_jobs = follows_jobs
        self.memory = TraceMemory(item_key, bytes_max)
        self._started_at = clock.wall()
        self._partitions: dict[int, Partition] = {}
        self._sent_at: dict[int, float] = {}
        """Of the requests in flight, in seconds since 1970."""
        self._failed: dict[str, FailedRequest] = {}
        """By location, the one that failed last at the end."""

    # Answering

    def turn(self) -> None:
        """Answer one question, if there is one. It changes nothing; what goes wrong is raised where it was asked."""
        asked = self._questions.take()
        if asked is None:
            return
        try:
            asked.give(self.trace(asked.question))
        except Exception as error:  # noqa: BLE001 - a question must not end the service
            asked.fail(error)

    def trace(self, query: ItemQuery) -> ItemTrace:
        """Where the changes of the item are now."""
        engine, now = self._engine, self._clock.monotonic()
        pending = pending_item(engine, query, self._item_key)
        location = engine.locations.find(query.location)
        views = location_views(
            [location] if location else [],
            max_age_seconds=engine.limits.max_age_seconds,
            flush_items=engine.flush_items,
            now=now,
        )
        in_flight = location.in_flight if location else None
        owners = {change.change_id.assignment_id for change in pending.changes}
        forgot_at = self.memory.forgot_at
        return ItemTrace(
            at=now,
            view=views[0] if views else None,
            is_set_aside=location in engine.locations.set_aside,
            pending=pending,
            left=self.memory.find(query),
            partitions={owner: self._partitions[owner] for owner in owners if owner in self._partitions},
            max_age_seconds=engine.limits.max_age_seconds,
            complete_since=self._started_at if forgot_at is None else forgot_at,
            follows_jobs=self._follows_jobs,
            sent_at=in_flight.sent_at if in_flight else None,
            request_id=x_request_id(self._instance, in_flight.request.request_id) if in_flight else None,
            failed=self._failed.get(query.location),
        )

    # Remembering

    def observe(self, fact: Fact) -> None:
        """Remember what it says of single changes; most facts say nothing."""
        match fact:
            case PartitionsAssigned():
                self._assigned(fact.assignments)
            case ChangesDecoded() if fact.decoded.barriers is not None:
                self._rejected(fact.decoded.rejects, fact.decoded.barriers)
            case RequestSent():
                self._sent_at[fact.request.request_id] = self._clock.wall()
            case RequestAnswered():
                self._answered(fact)
            case ChangesDeadLettered():
                for changes in fact.changes:
                    self._dead_lettered(changes)
            case JobEnded():
                result = fact.result
                messages = one_line("; ".join(result.messages), DETAIL_CHARACTERS_MAX)
                self.memory.job_ended(result.job.job_id, result.outcome, messages, self._clock.wall())
            case _:
                pass

    def _assigned(self, assignments: Sequence[Assignment]) -> None:
        for assignment in assignments:
            self._partitions[assignment.assignment_id] = (assignment.topic, assignment.partition)
        while len(self._partitions) > ASSIGNMENTS_MAX:
            del self._partitions[next(iter(self._partitions))]

    def _answered(self, fact: RequestAnswered) -> None:
        request, answer = fact.request, fact.answered.answer
        sent_at = self._sent_at.pop(request.request_id, None)
        accepted = fact.accepted
        if accepted is not None:
            self._failed.pop(request.location, None)
            fate = Fate(
                Outcome.ACCEPTED,
                self._clock.wall(),
                request.location,
                fact.x_request_id,
                accepted.items,
                sent_at,
                fact.decision.job_id if isinstance(fact.decision, Accepted) else None,
            )
            self.memory.add(fate, accepted.taken.present, self._partitions)
        elif answer.kind is not AnswerKind.NOT_SENT:
            detail = one_line(answer.detail, DETAIL_CHARACTERS_MAX)
            self._failed.pop(request.location, None)  # so that it comes last
            self._failed[request.location] = FailedRequest(
                fact.x_request_id, answer.kind, answer.status, detail, self._clock.wall()
            )
            if len(self._failed) > FAILED_MAX:
                del self._failed[next(iter(self._failed))]

    def _rejected(self, rejects: Sequence[Reject], barriers: pl.DataFrame) -> None:
        """Rejects whose item is known. Of the others the item is not known."""
        said = pl.DataFrame(
            [(*reject.change_id, reject.reason.value, reject.detail) for reject in rejects],
            schema={ASSIGNMENT: pl.Int32, OFFSET: pl.Int64, LINE: pl.Int32, _REASON: pl.String, _DETAIL: pl.String},
            orient="row",
        )
        joined = barriers.join(said, on=CHANGE_ID, how="inner", maintain_order="left")
        groups = joined.partition_by(LOCATION, _REASON, _DETAIL, as_dict=True, maintain_order=True)
        for (location, reason, detail), rows in islice(groups.items(), REJECT_GROUPS_MAX):
            self._remember_dead_letter(rows, reason, detail, location)

    def _dead_lettered(self, changes: FailedChanges) -> None:
        """A failed job is remembered with its request."""
        if changes.reason is RejectReason.JOB_FAILED or not changes.items:
            return
        rows = pl.DataFrame(
            list(changes.items), schema={ASSIGNMENT: pl.Int32, OFFSET: pl.Int64, LINE: pl.Int32}, orient="row"
        )
        items = pl.Series([item.decode() for item in changes.items.values()]).str.json_decode(
            pl.Struct(dict.fromkeys(IDENTIFIERS, pl.String))
        )
        rows = rows.hstack(items.struct.unnest())
        self._remember_dead_letter(rows, changes.reason, changes.detail, changes.location, changes.x_request_id)

    def _remember_dead_letter(
        self, rows: pl.DataFrame, reason: str, detail: str, location: str, request_id: str | None = None
    ) -> None:
        fate = Fate(
            Outcome.DEAD_LETTERED,
            self._clock.wall(),
            location,
            request_id,
            reason=reason,
            detail=one_line(detail, DETAIL_CHARACTERS_MAX),
        )
        self.memory.add(fate, rows, self._partitions)
