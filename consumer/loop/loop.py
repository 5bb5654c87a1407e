"""The one loop: poll, tell the engine, perform what it says.

One thread runs it and owns Kafka and the engine. Decoding and HTTP go on beside it, behind ports; nothing here waits
for them longer than a poll. The clock is read once a turn.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from consumer.core.engine import Engine
from consumer.core.location.planner import chunks
from consumer.core.location.request import Refusal
from consumer.core.oms.answers import Accepted, RetryLimits, Stop, decide
from consumer.core.partition.commit_metadata import CommitMetadata, format_metadata, parse_metadata
from consumer.core.partition.partitions import CommitPoint
from consumer.errors import DeadLettersError, OmsRefusedError, StopError
from consumer.facts import (
    ChangesDeadLettered,
    ChangesDecoded,
    CommittedOffsetOutOfRange,
    DeadLettersConfirmed,
    Heartbeat,
    MessagesRead,
    Observer,
    OffsetsCommitted,
    PartitionsAssigned,
    PartitionsLost,
    PartitionsRevoked,
    PartitionView,
    PendingByLocation,
    RequestAnswered,
    RequestSent,
    Snapshot,
)
from consumer.loop.failed_changes import refused_changes
from consumer.loop.job_follower import JobFollower
from consumer.ports import (
    Answered,
    Assignment,
    Clock,
    Commit,
    Committed,
    DeadLetters,
    Decoded,
    Decoder,
    RefreshClient,
    Source,
    Submission,
)


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What bounds a turn of the loop."""

    poll_messages_max: int = 5_000
    poll_seconds_max: float = 0.1
    """A poll waits so long for messages when nothing else is under way."""
    poll_seconds_busy: float = 0.005
    """And so long while answers, frames or confirmations are awaited: nothing can wake a poll."""
    fetching_changes_max: int = 100_000
    """While so many refused changes are still to be found again for their dead letters, nothing more is read."""
    poll_interval_seconds_max: float = 1.0
    """While the decoder has no room there is nothing to poll for, but the group wants to hear of us: poll, with all
    paused."""
    commit_interval_seconds: float = 1.0
    round_interval_seconds: float = 0.03
    snapshot_interval_seconds: float = 0.25
    locations_interval_seconds: float | None = None
    """So often the observer is told what is pending of each location; None: never."""
    revoke_seconds_max: float = 30.0
    retry: RetryLimits = field(default_factory=RetryLimits)


class Loop:
    """The service's only thread of decisions. It is the source's rebalance listener too."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Clock,
        source: Source,
        decoder: Decoder,
        client: RefreshClient,
        dead_letters: DeadLetters,
        observer: Observer,
        jitter: Callable[[], float],
        options: LoopOptions,
        job_follower: JobFollower | None = None,
        log_end: Callable[[int], int | None] = lambda _number: None,
    ) -> None:
        """``job_follower`` looks after the jobs of accepted requests; without it nobody does.

        ``log_end`` tells the end of an assignment's log as last heard, without asking anybody; None: not heard yet.
        """
        self._engine = engine
        self._clock = clock
        self._source = source
        self._decoder = decoder
        self._client = client
        self._dead_letters = dead_letters
        self._observer = observer
        self._jitter = jitter
        self._options = options
        self._follow_up = job_follower
        self._log_end = log_end
        self._assignments: dict[int, Assignment] = {}
        self._committed: dict[int, CommitPoint] = {}
        self._paused: set[int] = set()
        self._stopping = False
        self._leaving = False
        self._broken = False
        self._fenced = False
        self._crowded = False
        self._polled_at = clock.monotonic()
        self._next_commit_at = 0.0
        self._next_round_at = 0.0
        self._next_snapshot_at = 0.0
        self._next_locations_at = 0.0
        self._rebalanced = False
        self._quiet = False

    # Life

    def stop(self) -> None:
        """Ask the loop to leave in good order; safe in a signal handler and from another thread."""
        self._stopping = True

    def run(self, *, after_turn: Callable[[float, bool], None] = lambda _now, _quiet: None) -> None:
        """Turn until asked to stop; then settle what is in flight, commit and leave the group.

        ``after_turn`` is called with the time and whether the turn was quiet (nothing was read).

        Raises StopError where the service cannot go on. What had been accepted is committed then too; after any other
        exception, which is a bug, nothing more is.
        """
        try:
            self._source.subscribe(self)
            while not self._stopping:
                self.turn()
                after_turn(self._clock.monotonic(), self._quiet)
        except StopError:
            self._leave(settle_dead_letters=False)
            raise
        except BaseException:
            self._broken = True
            self._source.close()
            raise
        self._leave(settle_dead_letters=True)

    def turn(self) -> None:
        """One turn: everything that is there is taken in, everything that may go goes out."""
        self._poll()
        now = self._clock.monotonic()
        for decoded in self._decoder.take():
            self._add(decoded, now)
        self._settle(now)
        self._send_round(now)
        if self._follow_up:
            self._follow_up.turn(now)
        self._commit_if_moved(now)
        self._pause_and_resume()
        if now >= self._next_snapshot_at or self._rebalanced:
            self._rebalanced = False
            self._next_snapshot_at = now + self._options.snapshot_interval_seconds
            self._observer.observe(self._snapshot(now))
            self._tell_locations(now)

    def _leave(self, *, settle_dead_letters: bool) -> None:
        """Settle, commit and leave the group. The revoke that closing brings finds nothing left to do."""
        self._leaving = True  # what comes now cannot stop the service a second time
        self._give_up(list(self._engine.assignments), settle_dead_letters=settle_dead_letters)
        if self._follow_up:
            self._follow_up.leave()
        self._source.close()

    # Rebalances, called inside a poll

    def on_assigned(self, assignments: Sequence[Assignment]) -> None:
        """Begin each at what its last owner committed, as far as the log still has that (rule 8)."""
        now = self._clock.monotonic()
        for assignment in assignments:
            start = assignment.committed
            if start is not None and not assignment.low <= start <= assignment.high:
                self._observer.observe(CommittedOffsetOutOfRange(assignment))
                start = None
            self._assignments[assignment.assignment_id] = assignment
            if assignment.committed is None:  # of this group nobody has sent anything
                self._engine.assigned(assignment.assignment_id, start=None, mark=None, open_=False, now=now)
                continue
            mark = parse_metadata(assignment.metadata, committed=assignment.committed)
            self._engine.assigned(
                assignment.assignment_id,
                start=start,
                mark=min(mark.read_up_to, assignment.high),
                open_=mark.in_doubt,
                now=now,
            )
        self._fenced = False
        self._rebalanced = True
        self._observer.observe(PartitionsAssigned(assignments))

    def on_revoked(self, numbers: Sequence[int]) -> None:
        """Settle what is in flight with rows of these partitions, commit, forget their rows."""
        if not self._broken:
            self._give_up(numbers, settle_dead_letters=True)

    def on_lost(self, numbers: Sequence[int]) -> None:
        """Another member has these partitions already: their rows go, and nothing is committed (rule 20)."""
        self._observer.observe(PartitionsLost(self._forget(numbers)))
        self._fenced = False

    def _give_up(self, numbers: Sequence[int], *, settle_dead_letters: bool) -> None:
        """Nothing new leaves; what is in flight has one shared deadline to be answered (rule 20)."""
        ours = [number for number in numbers if number in self._assignments]
        if not ours:
            return
        now = self._clock.monotonic()
        deadline = now + self._options.revoke_seconds_max
        while now < deadline and (
            self._engine.in_flight_with(ours) or (settle_dead_letters and self._engine.unconfirmed)
        ):
            self._client.wait(min(0.05, deadline - now))
            now = self._clock.monotonic()
            self._settle(now, settle_dead_letters=settle_dead_letters)
            self._observer.observe(Heartbeat(now))
        unsettled = self._engine.in_flight_with(ours)
        self._commit([point for point in self._moved(now) if point.assignment in ours])
        self._observer.observe(PartitionsRevoked(self._forget(ours), unsettled))

    def _forget(self, numbers: Sequence[int]) -> list[Assignment]:
        gone = [self._assignments.pop(number) for number in numbers if number in self._assignments]
        self._engine.forget(numbers)
        self._paused.difference_update(numbers)
        for number in numbers:
            self._committed.pop(number, None)
        self._rebalanced = True
        return gone

    # Changes in

    def _poll(self) -> None:
        room = self._decoder.room()
        now = self._clock.monotonic()
        self._crowded = not room and now - self._polled_at >= self._options.poll_interval_seconds_max
        if not room and not self._crowded:
            self._client.wait(self._options.poll_seconds_busy)
            return
        self._pause_and_resume()
        timeout = self._poll_seconds(now) if room else 0.0
        batch = self._source.poll(messages_max=self._options.poll_messages_max, timeout_seconds=timeout)
        self._polled_at = now
        self._quiet = not len(batch)
        if len(batch) or batch.ends:
            self._observer.observe(MessagesRead(len(batch)))
            self._decoder.put(batch)

    def _poll_seconds(self, now: float) -> float:
        if self._engine.in_flight or self._engine.unconfirmed or self._decoder.busy():
            return self._options.poll_seconds_busy
        deadline = self._engine.next_deadline(now)
        longest = self._options.poll_seconds_max
        return longest if deadline is None else min(longest, max(deadline - now, 0.0))

    def _add(self, decoded: Decoded, now: float) -> None:
        rejects = [reject.change_id for reject in decoded.rejects]
        too_many = self._engine.add(decoded.frame, rejects, decoded.next_offsets, now, decoded.ends)
        self._observer.observe(ChangesDecoded(decoded))
        if too_many:
            reasons = sorted({reject.reason.value for reject in decoded.rejects})
            raise DeadLettersError(
                f"too many of the latest changes are rejected (last: {', '.join(reasons)}): look at what upstream "
                "sends and at avro.fields, or raise dead_letters.max_ratio; nothing past this is committed"
            )
        ours = [reject for reject in decoded.rejects if reject.change_id.assignment in self._assignments]
        if ours:
            self._dead_letters.publish(ours, self._assignments)

    def _pause_and_resume(self) -> None:
        all_paused = self._crowded or self._dead_letters.fetching() > self._options.fetching_changes_max
        wanted = set(self._assignments) if all_paused else self._engine.to_pause()
        to_pause, to_resume = wanted - self._paused, self._paused - wanted
        if to_pause:
            self._source.pause(sorted(to_pause))
        if to_resume:
            self._source.resume(sorted(to_resume))
        self._paused = set(wanted)

    # Requests out, answers in

    def _send_round(self, now: float) -> None:
        """Commit, and only then let requests leave: a member without its partitions is refused here and sends none.

        That is rule 11. When it is refused its rows stay, all of them (rule 12).
        """
        if self._fenced or now < self._next_round_at:
            return
        requests = self._engine.due(now)
        if not requests:
            return
        self._next_round_at = now + self._options.round_interval_seconds
        if not self._commit(self._engine.commit_points(now)):
            self._engine.give_back(requests)
            return
        for request in requests:
            self._client.submit(Submission(request.request_id, request.location, request.taken, covered_at=now))
            self._observer.observe(RequestSent(request, chunks(request.items, self._engine.limits.items.chunk_items)))

    def _settle(self, now: float, *, settle_dead_letters: bool = True) -> None:
        if settle_dead_letters:
            confirmed = self._dead_letters.confirmed()
            if confirmed:
                self._engine.dead_lettered(confirmed)
                self._observer.observe(DeadLettersConfirmed(len(confirmed)))
        reasons = [self._answered(answered, now) for answered in self._client.answers()]
        for refusal in self._engine.refusals():
            self._dead_letter_refused(refusal)
        stop = next(filter(None, reasons), "")
        if stop and not self._leaving:
            raise OmsRefusedError(stop)

    def _answered(self, answered: Answered, now: float) -> str:
        """Settle one request; returns why the service must stop for it, "" if it need not."""
        attempt = self._engine.attempt(answered.request_id)
        decision = decide(answered.answer, attempt=attempt, jitter=self._jitter(), limits=self._options.retry)
        request = self._engine.answered(answered.request_id, decision, now)
        self._observer.observe(RequestAnswered(request, answered, decision))
        if self._follow_up and isinstance(decision, Accepted):
            self._follow_up.accepted(request, decision.job_id, self._assignments, now)
        return decision.detail if isinstance(decision, Stop) and not self._engine.ever_accepted else ""

    def _dead_letter_refused(self, refusal: Refusal) -> None:
        changes = refused_changes(refusal, self._assignments)
        self._dead_letters.fetch_and_publish(changes)
        self._observer.observe(ChangesDeadLettered(changes))
        if self._engine.too_many_refused and not self._leaving:
            raise DeadLettersError(
                f"the OMS refuses too many of the latest changes (last: location {refusal.location!r}, "
                f"{refusal.detail}): correct what upstream sends, or the locations in the OMS, or raise "
                "dead_letters.max_ratio; nothing past this is committed"
            )

    # Commits

    def _commit_if_moved(self, now: float) -> None:
        """Commit what has moved, at most once a second; at once when nothing is left that could move it further."""
        if now >= self._next_commit_at or not self._engine.pending_changes:
            moved = self._moved(now)
            if moved:
                self._next_commit_at = now + self._options.commit_interval_seconds
                self._commit(moved)

    def _moved(self, now: float) -> list[CommitPoint]:
        return [point for point in self._engine.commit_points(now) if self._committed.get(point.assignment) != point]

    def _commit(self, points: Collection[CommitPoint]) -> bool:
        """Commit these points; False: refused, nothing may leave on the strength of it."""
        if not points:
            return True
        outcome = self._source.commit([self._as_commit(point) for point in points])
        if isinstance(outcome, Committed):
            self._committed.update({point.assignment: point for point in points})
            self._observer.observe(OffsetsCommitted(len(points)))
            return True
        self._fenced = self._fenced or outcome.fenced
        self._observer.observe(outcome)
        return False

    def _as_commit(self, point: CommitPoint) -> Commit:
        assignment = self._assignments[point.assignment]
        mark = CommitMetadata(point.mark, point.open, assignment.topic_id)
        return Commit(assignment, point.offset, format_metadata(mark))

    # What people see

    def _tell_locations(self, now: float) -> None:
        interval = self._options.locations_interval_seconds
        if interval is not None and now >= self._next_locations_at:
            self._next_locations_at = now + interval
            self._observer.observe(PendingByLocation(self._engine.pending_by_location(), now))

    def _snapshot(self, now: float) -> Snapshot:
        engine = self._engine
        oldest = engine.oldest_arrival()
        points = {point.assignment: point for point in engine.commit_points(now)}
        jobs = self._follow_up.jobs if self._follow_up else None
        return Snapshot(
            at=now,
            partitions=tuple(
                PartitionView(
                    topic=assignment.topic,
                    partition=assignment.partition,
                    committable_offset=points[number].offset if number in points else None,
                    committed_offset=self._committed[number].offset
                    if number in self._committed
                    else assignment.committed,
                    next_offset=engine.next_offset(number),
                    paused=number in self._paused,
                    recovering=number in engine.gathering,
                    end_offset=self._log_end(number),
                )
                for number, assignment in sorted(self._assignments.items())
            ),
            pending_changes=engine.pending_changes,
            pending_locations=engine.pending_locations,
            oldest_pending_seconds=None if oldest is None else now - oldest,
            requests_in_flight=engine.in_flight,
            held_locations=engine.held_locations(now),
            unconfirmed_dead_letters=engine.unconfirmed,
            oms_consecutive_failures=engine.oms_failures,
            breaker=engine.health.state(now),
            requests_per_second_max=engine.health.quota.limit(now),
            bisecting_locations=engine.bisecting_locations,
            flush_items=engine.flush_items,
            unfinished_jobs=jobs.unfinished if jobs else 0,
            unfinished_job_items=jobs.unfinished_items if jobs else 0,
            oldest_job_seconds=jobs.oldest_seconds(now) if jobs and jobs.unfinished else None,
            job_status_unavailable=(jobs.failing or None) if jobs else None,
            sending_stopped="fenced: waiting for the group" if self._fenced else engine.sending_stopped or None,
            waiting_for=self._decoder.waiting_for() or None,
        )
