"""The one loop: poll, feed the engine, carry out what it decides.

One thread runs it and owns the Kafka consumer and the engine. Decoding and HTTP calls run on worker threads behind the
ports; a turn never waits for them longer than for a poll. A turn reads the clock before and after its poll, and all
decisions after the poll use the later time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from consumer.core.engine import Engine
from consumer.errors import DeadLettersError, SettingsError, StopError
from consumer.facts import ChangesDecoded, MessagesRead, Observer, RequestSent
from consumer.loop.answers import Answers
from consumer.loop.batch_collector import BatchCollector
from consumer.loop.commits import Commits
from consumer.loop.job_follower import JobFollower
from consumer.loop.location_reports import LocationReports
from consumer.loop.rebalance import Rebalance
from consumer.loop.schema_wait import SchemaWait
from consumer.loop.snapshot import LogEnd, take_snapshot
from consumer.loop.timer import Timer
from consumer.ports import (
    Clock,
    DeadLetters,
    Decoded,
    Decoder,
    RawBatch,
    RefreshClient,
    Source,
    Submission,
    x_request_id,
)

RECOVERY_DOES_NOT_FIT: Final = (
    "memory.budget: the partitions that were taken over have more changes to read again than half of it holds, even "
    "coalesced; raise the container's memory limit, or memory.budget if it is set, at least until they have been sent; "
    "nothing of them was sent or committed by this process"
)
DEFAULT_PARKED_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Limits and intervals of the loop."""

    poll_messages_max: int = 5_000
    poll_seconds_max: float = 0.25
    """A poll waits this long for messages if nothing else is outstanding."""
    answer_seconds_max: float = 0.1
    """And this long for answers: they end the wait, but what the client has read by then is polled only after it."""
    poll_seconds_busy: float = 0.005
    """And this long while frames or confirmations are, or answers while much is read: they cannot wake a poll."""
    collect_messages: int = 1_000
    """This many messages are decoded at once; a poll that brings fewer is a quiet one."""
    collect_bytes: int = 256 * 1024
    """Or messages whose values have this many bytes, so that what is collected needs no share of the memory budget."""
    collect_seconds_max: float = 0.3
    collect_age_share: float = 0.05
    """Fewer messages wait for others for this share of ``max_age``, at most ``collect_seconds_max``."""
    fetching_changes_max: int = 100_000
    """All partitions are paused while the original records of more failed changes are still to be fetched."""
    poll_interval_seconds_max: float = 1.0
    """While the decoder is full or nothing may be read there is no need to poll, but a member that does not poll is
    removed from its group. So poll at least this often, with all partitions paused."""
    commit_interval_seconds: float = 1.0
    round_interval_seconds: float = 0.03
    snapshot_interval_seconds: float = 0.25
    locations_interval_seconds: float | None = None
    """How often ``PendingByLocation`` is emitted; None for never."""
    revoke_seconds_max: float = 30.0
    schema_wait_seconds: float = 60.0
    """How long a partition may wait for a schema that the registry does not know, in any ten minutes."""
    parked_bytes_max: int = DEFAULT_PARKED_BYTES
    """Waiting partitions are paused once this much is parked."""
    instance: str = "0"
    """Names the process in the ids of its requests: unique among all members of the group and their restarts."""


class Life(Enum):
    """The phases of the loop. Only its own thread changes them."""

    RUNNING = auto()
    LEAVING = auto()
    """Settles requests, commits and leaves the group. Answers can no longer raise StopError."""
    FAILED = auto()
    """A bug was found: nothing more is committed."""


class Loop:
    """See the module's docstring. ``run`` may be called once."""

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
        log_end: LogEnd = lambda _assignment_id: None,
        memory_pressure: Callable[[], bool] = lambda: False,
        views_wanted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Without ``job_follower``, jobs of accepted requests are not followed.

        ``memory_pressure``: the process is close to its container's memory limit. ``views_wanted``: somebody looks.
        """
        self._engine = engine
        self._clock = clock
        self._source = source
        self._decoder = decoder
        self._client = client
        self._dead_letters = dead_letters
        self._observer = observer
        self._options = options
        self._job_follower = job_follower
        self._log_end = log_end
        self._memory_pressure = memory_pressure
        self._life = Life.RUNNING
        self._stop_requested = False
        """Separate from ``_life``, because another thread or a signal handler may set it at any time."""
        self._commits = Commits(engine, source, observer)
        self._answers = Answers(
            engine=engine,
            client=client,
            dead_letters=dead_letters,
            observer=observer,
            jitter=jitter,
            assignments=self._commits.assignments,
            job_follower=job_follower,
            instance=options.instance,
        )
        self.rebalance = Rebalance(
            engine=engine,
            commits=self._commits,
            client=client,
            clock=clock,
            observer=observer,
            settle=self._settle,
            on_change=self._assignments_changed,
            revoke_seconds_max=options.revoke_seconds_max,
        )
        self._paused: set[int] = set()
        self._is_decoder_full = False
        """The decoder has had no room for so long that turns poll with everything paused."""
        self._collector = _new_collector(options, engine.limits.max_age_seconds)
        self._schema_wait = SchemaWait(decoder, observer, options.schema_wait_seconds, options.parked_bytes_max)
        self._last_read = 0
        """Messages of the last poll."""
        self._puts_poll_off = False
        """Nothing may be read, and the partitions are not paused yet."""
        self._poll_due_at = clock.monotonic() + options.poll_interval_seconds_max
        self._commit_timer = Timer(options.commit_interval_seconds)
        self._round_timer = Timer(options.round_interval_seconds)
        self._snapshot_timer = Timer(options.snapshot_interval_seconds)
        self._location_reports = LocationReports(engine, observer, options.locations_interval_seconds, views_wanted)

    # Life

    def stop(self) -> None:
        """Ask the loop to shut down gracefully. Safe to call from a signal handler or another thread."""
        self._stop_requested = True

    def run(self, *, after_turn: Callable[[float, bool], None] = lambda _now, _idle: None) -> None:
        """Run until ``stop`` is called; then settle requests in flight, commit and leave the group.

        ``after_turn`` is called after each turn, with the time and whether the last poll returned nothing.

        Raises StopError if the service cannot go on; everything accepted by then is committed first. Any other
        exception is a bug, after which nothing more is committed.
        """
        try:
            self._source.subscribe(self.rebalance)
            while not self._stop_requested:
                self.turn()
                after_turn(self._clock.monotonic(), not self._last_read)
        except StopError:
            self._leave(with_dead_letters=False)
            raise
        except BaseException:
            self._life = Life.FAILED
            self.rebalance.may_commit = False
            self._source.close()
            raise
        self._leave(with_dead_letters=True)

    def turn(self) -> None:
        """One turn: take in everything that is there, and send everything that may leave."""
        batch = self._poll()
        now = self._clock.monotonic()
        self._collect(batch, now)
        for decoded in self._schema_wait.take(now, self._commits.assignments):
            self._add(decoded, now)
        self._settle(now)
        self._apply_backpressure(now)
        self._send_round(now)
        if self._job_follower:
            self._job_follower.turn(now)
        self._commit_if_moved(now)
        if self._snapshot_timer.is_due(now):
            self._snapshot_timer.restart(now)
            self._take_snapshot(now)

    def _leave(self, *, with_dead_letters: bool) -> None:
        """Settle, commit and leave the group. The revoke during ``close`` then finds nothing left to do."""
        self._life = Life.LEAVING
        self.rebalance.hand_over(list(self._commits.assignments), with_dead_letters=with_dead_letters)
        if self._job_follower:
            self._job_follower.leave()
        self._source.close()

    # Changes in

    def _poll(self) -> RawBatch | None:
        """What a poll brings; None without a poll, while nothing can be taken in."""
        has_room = self._decoder.room()
        now = self._clock.monotonic()
        is_late = now >= self._poll_due_at
        self._is_decoder_full = not has_room and (self._is_decoder_full or is_late)
        if not has_room and not is_late:
            self._client.wait(self._options.poll_seconds_busy)
            return None
        self._apply_backpressure(now)
        timeout = self._poll_seconds(now) if has_room else 0.0
        if self._puts_poll_off:
            self._client.wait(min(timeout, self._poll_due_at - now))
            return None
        if self._engine.locations.requests_in_flight and self._is_quiet:
            # An answer ends this wait, but no poll. What comes meanwhile waits in the client's queue.
            self._client.wait(timeout)
            timeout = 0.0
        batch = self._source.poll(messages_max=self._options.poll_messages_max, timeout_seconds=timeout)
        self._poll_due_at = now + self._options.poll_interval_seconds_max
        self._last_read = len(batch)
        return batch

    @property
    def _is_quiet(self) -> bool:
        return self._last_read < self._options.collect_messages

    def _poll_seconds(self, now: float) -> float:
        engine = self._engine
        in_flight = engine.locations.requests_in_flight
        # Reports of jobs cannot end a poll. They set the pace while a full job queue stops sending.
        awaits_jobs = self._job_follower and self._job_follower.sending_awaits_reports
        if engine.partitions.unconfirmed or self._decoder.busy() or awaits_jobs or (in_flight and not self._is_quiet):
            return self._options.poll_seconds_busy
        times = [now + (self._options.answer_seconds_max if in_flight else self._options.poll_seconds_max)]
        deadline = engine.next_deadline(now)
        if deadline is not None and not self._commits.is_fenced:
            times.append(max(deadline, self._round_timer.due_at))
        if engine.must_free_memory:
            times.append(now + self._options.round_interval_seconds)
        times += [time for time in (self._collector.due_at, self._schema_wait.retry_at) if time is not None]
        return max(min(times) - now, self._options.poll_seconds_busy if in_flight else 0.0)

    def _collect(self, batch: RawBatch | None, now: float) -> None:
        """Collect what was read; what should wait no longer goes to the decoder."""
        collector = self._collector
        if batch is not None and (len(batch) or batch.ends):
            self._observer.observe(MessagesRead(len(batch)))
            collector.add(batch, now)
        if self._engine.partitions.catching_up or self._paused:
            collector.hurry()
        if collector.is_due(now) and self._decoder.room():
            self._schema_wait.put(collector.take(), now)
        self._schema_wait.retry(now)

    def _add(self, decoded: Decoded, now: float) -> None:
        rejects = [reject.change_id for reject in decoded.rejects]
        too_many = self._engine.add(
            decoded.frame, rejects, decoded.next_offsets, now, decoded.ends, decoded.polled_at, decoded.barriers
        )
        self._observer.observe(ChangesDecoded(decoded))
        if too_many:
            reasons = sorted({reject.reason.value for reject in decoded.rejects})
            raise DeadLettersError(
                f"too many of the latest changes are rejected (last: {', '.join(reasons)}): look at what upstream "
                "sends and at events.fields, or raise dead_letters.max_ratio; nothing past this is committed"
            )
        if self._engine.recovery_does_not_fit:
            raise SettingsError(RECOVERY_DOES_NOT_FIT)
        assignments = self._commits.assignments
        current = [reject for reject in decoded.rejects if reject.change_id.assignment_id in assignments]
        if current:
            self._dead_letters.publish(current, assignments)

    def _apply_backpressure(self, now: float) -> None:
        """Pause the partitions that must not be read now, and resume the others.

        If nothing may be read, the next poll is put off first: a pause would cost what the client has fetched.
        """
        wanted = self._engine.update_backpressure(now, memory_pressure=self._memory_pressure())
        wanted |= self._schema_wait.to_pause()
        if self._is_decoder_full or self._dead_letters.fetching() > self._options.fetching_changes_max:
            wanted = frozenset(self._commits.assignments)
        to_pause, to_resume = wanted - self._paused, self._paused - wanted
        self._puts_poll_off = (
            bool(to_pause) and wanted.issuperset(self._commits.assignments) and now < self._poll_due_at
        )
        if self._puts_poll_off:
            return
        if to_pause:
            self._source.pause(sorted(to_pause))
        if to_resume:
            self._source.resume(sorted(to_resume))
        self._paused = set(wanted)

    # Requests out, answers in

    def _send_round(self, now: float) -> None:
        """Commit, and only then send: a member that lost its partitions is refused here (rule 11).

        If the commit is refused, nothing is sent and all changes return to their windows (rule 12).
        """
        if self._commits.is_fenced or not self._round_timer.is_due(now):
            return
        requests = self._engine.due(now)
        if not requests:
            return
        self._round_timer.restart(now)
        if not self._commits.commit_all(now):
            self._engine.give_back(requests, now)
            return
        for request in requests:
            bytes_max = self._engine.bytes_max(request)
            name = x_request_id(self._options.instance, request.request_id)
            self._client.submit(
                Submission(request.request_id, request.location, request.taken, now, bytes_max, name, request.is_smart)
            )
            self._observer.observe(RequestSent(request, name))

    def _settle(self, now: float, with_dead_letters: bool = True) -> None:  # noqa: FBT001, FBT002 - it is passed as a callback
        """Take answers and confirmations. Raises StopError if the service must stop because of one."""
        reason = self._answers.settle(now, with_dead_letters=with_dead_letters)
        if reason and self._life is Life.RUNNING:
            raise reason

    def _commit_if_moved(self, now: float) -> None:
        """Commit what has moved: once per interval, or at once if nothing is pending that could move it further."""
        if self._commit_timer.is_due(now) or not self._engine.pending_changes:
            moved = self._commits.moved(now)
            if moved:
                self._commit_timer.restart(now)
                self._commits.commit(moved)

    # What observers see

    def _assignments_changed(self, gone: Sequence[int]) -> None:
        self._paused.difference_update(gone)
        self._schema_wait.forget(gone)
        self._collector.hurry()
        self._snapshot_timer.expire()

    def _take_snapshot(self, now: float) -> None:
        self._observer.observe(
            take_snapshot(
                self._engine,
                self._commits,
                self._job_follower,
                paused=self._paused,
                decoding_blocked=self._decoder.blocked_reason(),
                parked_messages=self._schema_wait.parked_messages,
                log_end=self._log_end,
                memory_pressure=self._memory_pressure(),
                now=now,
            )
        )
        self._location_reports.turn(now)


def _new_collector(options: LoopOptions, max_age_seconds: float) -> BatchCollector:
    return BatchCollector(
        messages_due=options.collect_messages,
        bytes_due=options.collect_bytes,
        seconds=min(options.collect_seconds_max, options.collect_age_share * max_age_seconds),
    )
