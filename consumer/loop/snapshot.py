"""Takes a snapshot of the loop's state for metrics, probes and the status page."""

from collections.abc import Callable, Collection
from typing import Final

from consumer.core.engine import Engine
from consumer.facts import PartitionView, Snapshot
from consumer.loop.commits import FENCED, Commits
from consumer.loop.job_follower import JobFollower

SET_ASIDE_SHOWN: Final = 100
LogEnd = Callable[[int], int | None]
"""Returns the log end offset of an assignment as last reported by the broker; None if not reported yet."""


def take_snapshot(
    engine: Engine,
    commits: Commits,
    job_follower: JobFollower | None,
    *,
    paused: Collection[int],
    decoding_blocked: str | None,
    parked_messages: int,
    log_end: LogEnd,
    memory_pressure: bool,
    now: float,
) -> Snapshot:
    """``paused`` are the ids of paused assignments, ``decoding_blocked`` is the reason if decoding is blocked."""
    oldest = engine.oldest_arrival()
    jobs = job_follower.jobs if job_follower else None
    locations = engine.locations
    set_aside = locations.set_aside.locations
    return Snapshot(
        at=now,
        partitions=_partitions(engine, commits, paused, log_end, now),
        pending_changes=engine.pending_changes,
        pending_bytes=int(engine.pending_bytes),
        pending_locations=locations.pending_locations,
        oldest_pending_seconds=None if oldest is None else now - oldest,
        requests_in_flight=locations.requests_in_flight,
        held_locations=locations.held_locations(now),
        unconfirmed_dead_letters=engine.partitions.unconfirmed,
        oms_consecutive_failures=engine.breaker.failures,
        breaker=engine.breaker.state(now),
        requests_per_second_max=engine.breaker.rate_limiter.limit(now),
        bisecting_locations=locations.bisecting_locations,
        set_aside_locations=len(set_aside),
        set_aside={found.name: locations.set_aside.said_of(found) for found in set_aside[:SET_ASIDE_SHOWN]},
        flush_items=engine.flush_items,
        unfinished_jobs=jobs.unfinished if jobs else 0,
        unfinished_job_items=jobs.unfinished_items if jobs else 0,
        oldest_job_seconds=jobs.oldest_seconds(now) if jobs else None,
        job_status_unavailable=jobs.unavailable_reason if jobs else None,
        job_queue_full=job_follower.queue_full if job_follower else None,
        sending_stopped=FENCED if commits.is_fenced else engine.sending_stopped,
        decoding_blocked=decoding_blocked,
        parked_messages=parked_messages,
        memory_pressure=memory_pressure,
    )


def _partitions(
    engine: Engine, commits: Commits, paused: Collection[int], log_end: LogEnd, now: float
) -> tuple[PartitionView, ...]:
    points = {point.assignment_id: point for point in engine.commit_points(now)}
    recovering = set(engine.partitions.recovering)
    return tuple(
        PartitionView(
            topic=assignment.topic,
            partition=assignment.partition,
            committable_offset=points[assignment_id].offset if assignment_id in points else None,
            committed_offset=commits.committed_offset(assignment),
            next_offset=engine.partitions.next_offset(assignment_id),
            paused=assignment_id in paused,
            recovering=assignment_id in recovering,
            end_offset=log_end(assignment_id),
        )
        for assignment_id, assignment in sorted(commits.assignments.items())
    )
