"""The loop with fakes of its ports: what it does, and in which order."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from consumer.core.changes.items import ChangeId, RejectReason
from consumer.core.engine import Engine
from consumer.core.limits import EngineLimits
from consumer.core.location.planner import ItemLimits
from consumer.core.oms.answers import Answer, AnswerKind
from consumer.core.oms.job_schedule import JobLimits, JobReport, JobStatus
from consumer.errors import DeadLettersError, OmsRefusedError, SettingsError
from consumer.facts import Fact, RequestAnswered, RequestSent
from consumer.loop.job_follower import JobFollower
from consumer.loop.loop import Loop, LoopOptions
from consumer.ports import AwaitedSchema, CommitRefused, Reject
from tests.support.fakes import (
    ACCEPTED,
    Diary,
    FakeClient,
    FakeClock,
    FakeDeadLetters,
    FakeDecoder,
    FakeJobs,
    FakeObserver,
    FakeSource,
    assignment,
    decoded,
    raw_batch,
)
from tests.support.frames import change, frame


class Stage:
    """A loop with one partition and windows that are full at three items."""

    def __init__(self, *, options: LoopOptions | None = None, follow_jobs: bool = False, **limits: Any) -> None:
        self.memory_pressure = False
        self.views_wanted = False
        self.diary: Diary = []
        self.clock = FakeClock()
        self.source = FakeSource(self.diary, self.clock)
        self.decoder = FakeDecoder()
        self.client = FakeClient(self.diary, self.clock)
        self.dead_letters = FakeDeadLetters(self.diary)
        self.observer = FakeObserver(self.diary)
        items = ItemLimits(chunk_items=3, max_items=12, flush_items=3)
        self.engine = Engine(EngineLimits(items=items, max_age_seconds=10.0, **limits))
        self.jobs = FakeJobs()
        self.loop = Loop(
            engine=self.engine,
            clock=self.clock,
            source=self.source,
            decoder=self.decoder,
            client=self.client,
            dead_letters=self.dead_letters,
            observer=self.observer,
            jitter=lambda: 0.5,
            options=options or LoopOptions(),
            job_follower=JobFollower(
                client=self.jobs,
                limits=JobLimits(unfinished_max=2),
                engine=self.engine,
                dead_letters=self.dead_letters,
                observer=self.observer,
                jitter=lambda: 0.5,
            )
            if follow_jobs
            else None,
            log_end={1: 20}.get,
            memory_pressure=lambda: self.memory_pressure,
            views_wanted=lambda: self.views_wanted,
        )
        self.source.subscribe(self.loop.rebalance)
        self.source.queue.append(lambda listener: listener.on_assigned([assignment(1)]))
        self.loop.turn()
        self.diary.clear()

    def add_changes(self, offset: int, count: int = 3, location: str = "Rome") -> None:
        rows = [change(location, f"sku-{at}", offset=at) for at in range(offset, offset + count)]
        self.decoder.ready.append(decoded(frame(rows), {1: offset + count}, polled_at=self.clock.now))

    def turns(self, count: int = 1, seconds: float = 0.2) -> None:
        for _ in range(count):
            self.clock.now += seconds
            self.loop.turn()

    def recorded(self, *kinds: str) -> list[Any]:
        return [entry for entry in self.diary if entry[0] in kinds]


def test_requests_are_sent_only_after_the_commit_that_covers_them() -> None:
    stage = Stage()
    stage.add_changes(0)
    stage.turns()

    assert stage.recorded("commit", "submit") == [("commit", {1: 0}), ("submit", "Rome")]


def test_the_offsets_of_an_accepted_request_are_committed_within_a_second() -> None:
    stage = Stage()
    stage.client.reply = ACCEPTED
    stage.add_changes(0)
    stage.turns(6)

    assert stage.source.committed == {1: 3}


def test_an_unchanged_committable_offset_is_not_committed_again() -> None:
    stage = Stage()
    stage.client.reply = ACCEPTED
    stage.add_changes(0)
    stage.turns(10)
    stage.diary.clear()
    stage.turns(20)

    assert stage.recorded("commit") == []


def test_a_round_whose_commit_is_refused_is_sent_later() -> None:
    stage = Stage()
    stage.source.refusal = CommitRefused(fenced=False, detail="rebalance in progress")
    stage.add_changes(0)
    stage.turns(3)
    assert stage.client.submitted == []

    stage.source.refusal = None
    stage.turns()
    assert [submission.taken.height for submission in stage.client.submitted] == [3]


@pytest.mark.parametrize("event", ["assigned", "lost"])
def test_a_fenced_member_sends_nothing_before_its_partitions_are_assigned_or_lost(event: str) -> None:
    stage = Stage()
    stage.source.refusal = CommitRefused(fenced=True, detail="unknown member")
    stage.add_changes(0)
    stage.turns()
    stage.source.refusal = None
    stage.turns(10)
    assert stage.client.submitted == []

    stage.source.queue.append(
        (lambda listener: listener.on_lost([1])) if event == "lost" else (lambda listener: listener.on_assigned([]))
    )
    stage.turns(2)
    assert len(stage.client.submitted) == (0 if event == "lost" else 1)


def test_a_revoke_waits_for_the_answer_in_flight_then_commits_then_forgets() -> None:
    stage = Stage()
    stage.add_changes(0)
    stage.turns()
    stage.client.on_wait = lambda: stage.client.answer(stage.client.submitted[0], ACCEPTED)
    stage.diary.clear()
    stage.source.queue.append(lambda listener: listener.on_revoked([1]))
    stage.turns()

    assert stage.recorded("answered", "commit", "revoked") == [
        ("answered", "Accepted"),
        ("commit", {1: 3}),
        ("revoked", [1]),
    ]
    assert stage.engine.pending_changes == 0


def accept_then(stage: Stage, refusal: CommitRefused, waits: int) -> None:
    """The request is accepted during the revoke; its commit is refused until this many waits have passed."""

    def accept() -> None:
        stage.client.answer(stage.client.submitted[0], ACCEPTED)
        stage.source.refusal = refusal
        allow_after(waits)

    def allow_after(left: int) -> None:
        if left:
            stage.client.on_wait = lambda: allow_after(left - 1)
        else:
            stage.source.refusal = None

    stage.client.on_wait = accept


def test_a_revoke_repeats_a_commit_refused_because_the_group_has_a_new_generation() -> None:
    """Otherwise the next owner would send once more what was accepted."""
    stage = Stage()
    stage.add_changes(0)
    stage.turns()
    accept_then(stage, CommitRefused(fenced=True, detail="ILLEGAL_GENERATION"), waits=3)
    stage.diary.clear()
    stage.source.queue.append(lambda listener: listener.on_revoked([1]))
    stage.turns()

    assert stage.source.committed == {1: 3}
    events = [event for event, _ in stage.recorded("commit", "commit refused", "revoked")]
    refusals = events.count("commit refused")
    assert refusals > 1
    assert events == ["commit refused"] * refusals + ["commit", "revoked"]


@pytest.mark.parametrize(("is_member", "refused"), [(False, 1), (True, 600)], ids=["removed", "until the deadline"])
def test_a_revoke_gives_up_its_commit_at_the_deadline_or_if_the_member_is_unknown(
    *, is_member: bool, refused: int
) -> None:
    stage = Stage()
    stage.add_changes(0)
    stage.turns()
    accept_then(stage, CommitRefused(fenced=True, detail="UNKNOWN_MEMBER_ID", is_member=is_member), waits=10**9)
    stage.diary.clear()
    stage.source.queue.append(lambda listener: listener.on_revoked([1]))
    stage.turns()

    assert stage.source.committed == {1: 0}
    assert len(stage.recorded("commit refused")) == pytest.approx(refused, rel=0.1)
    assert stage.recorded("revoked") == [("revoked", [1])]


def test_a_revoke_ends_at_its_deadline_and_leaves_unanswered_requests_to_the_next_owner() -> None:
    stage = Stage()
    stage.add_changes(0)
    stage.turns()
    before = stage.clock.now
    stage.source.queue.append(lambda listener: listener.on_revoked([1]))
    stage.turns()

    assert 30.0 <= stage.clock.now - before < 32.0
    assert stage.source.committed == {1: 0}
    assert stage.recorded("revoked") == [("revoked", [1])]


def test_a_revoke_sends_nothing_new() -> None:
    stage = Stage()
    stage.add_changes(0, count=2)
    stage.turns()
    stage.source.queue.append(lambda listener: listener.on_revoked([1]))
    stage.turns(30, seconds=1.0)

    assert stage.client.submitted == []


def test_lost_partitions_are_forgotten_without_a_commit() -> None:
    stage = Stage()
    stage.add_changes(0)
    stage.turns()
    stage.diary.clear()
    stage.source.queue.append(lambda listener: listener.on_lost([1]))
    stage.turns(10)

    assert stage.recorded("commit", "commit refused") == []
    assert stage.recorded("lost") == [("lost", [1])]


def test_stopping_settles_requests_commits_and_leaves_the_group() -> None:
    stage = Stage()
    stage.add_changes(0)
    stage.turns()
    stage.client.on_wait = lambda: stage.client.answer(stage.client.submitted[0], ACCEPTED)
    stage.loop.stop()
    stage.loop.run()

    assert stage.source.committed == {1: 3}
    assert stage.diary[-1] == ("close", None)


def test_a_bug_stops_the_loop_and_commits_nothing_more() -> None:
    stage = Stage()
    stage.add_changes(0)
    stage.turns()
    stage.diary.clear()

    def fail(_: object) -> None:
        raise ZeroDivisionError

    stage.source.queue.append(fail)
    with pytest.raises(ZeroDivisionError):
        stage.loop.run()

    assert stage.recorded("commit", "close") == [("close", None)]


def test_recovery_does_not_wait_for_offsets_past_the_end_of_the_log() -> None:
    stage = Stage()
    stage.source.queue.append(
        lambda listener: listener.on_assigned([assignment(2, committed=0, high=3, metadata="v1;900;0;")])
    )
    stage.turns()
    assert list(stage.engine.partitions.recovering) == [2]

    rows = [change("Rome", f"sku-{at}", offset=at, assignment=2) for at in range(3)]
    stage.decoder.ready.append(decoded(frame(rows), {2: 3}))
    stage.turns()
    assert list(stage.engine.partitions.recovering) == []


def test_a_committed_offset_below_the_log_start_is_reported_and_recovery_still_runs() -> None:
    stage = Stage()
    stage.source.queue.append(
        lambda listener: listener.on_assigned([assignment(2, committed=5, low=50, high=99, metadata="v1;80;0;")])
    )
    stage.turns()

    assert stage.recorded("out of range") == [("out of range", 2)]
    assert list(stage.engine.partitions.recovering) == [2]


def test_unreadable_metadata_counts_as_a_request_in_doubt() -> None:
    stage = Stage()
    foreign = ("", "foreign", "v2;1;0;", "v1;x;0;")
    assignments = [
        assignment(assignment_id, committed=0, metadata=metadata)
        for assignment_id, metadata in enumerate(foreign, start=2)
    ]
    stage.source.queue.append(lambda listener: listener.on_assigned(assignments))
    stage.turns()
    assert list(stage.engine.partitions.recovering) == [2, 3, 4, 5]

    stage.clock.now += 120.0
    stage.turns()
    assert list(stage.engine.partitions.recovering) == []


def test_a_change_refused_alone_is_dead_lettered_with_the_oms_message_and_the_rest_is_sent() -> None:
    stage = Stage()
    refused = Answer(AnswerKind.REFUSED, status=400, detail="no such sku")
    stage.dead_letters.confirming = False
    stage.add_changes(0)
    stage.turns(2)
    while stage.client.submitted:
        submission = stage.client.submitted.pop()
        bad = "sku-1" in submission.taken.frame["sku"]
        stage.client.answer(submission, refused if bad else ACCEPTED)
        stage.turns(2)

    ((_, (failed,)),) = stage.recorded("fetch")
    assert failed.change_ids == (ChangeId(1, 1),)
    assert failed.detail == "HTTP 400: no such sku"
    assert json.loads(failed.items[ChangeId(1, 1)]) == {"locationName": "Rome", "sku": "sku-1", "quantity": 1}
    assert stage.source.committed == {1: 1}
    stage.dead_letters.confirming = True
    stage.turns(2)
    assert stage.source.committed == {1: 3}


def test_an_oms_that_refuses_nearly_everything_of_few_locations_stops_the_service() -> None:
    stage = Stage(rejected_ratio_max=0.5, refused_changes_min=100)
    stage.client.reply = Answer(AnswerKind.REFUSED, status=400, detail="no such sku")

    def feed() -> None:
        for offset in itertools.count(0, 3):
            stage.add_changes(offset, location=f"store {offset % 4}")
            stage.turns(1, seconds=0.05)

    with pytest.raises(DeadLettersError, match=r"refuses too many.*store.*no such sku"):
        feed()

    assert stage.recorded("fetch")


def test_an_oms_that_refuses_most_locations_whole_gets_probes_and_nothing_more_is_dead_lettered() -> None:
    stage = Stage()
    stage.client.reply = Answer(AnswerKind.REFUSED, status=400, detail="no such sku")
    for number in range(20):
        stage.add_changes(3 * number, location=f"store {number}")
    stage.turns(200, seconds=10.0)

    assert not stage.recorded("fetch")
    assert stage.observer.latest
    assert "nothing is dead-lettered until it accepts" in (stage.observer.latest.sending_stopped or "")

    stage.client.reply = ACCEPTED
    stage.turns(200, seconds=10.0)
    assert stage.observer.latest.sending_stopped is None
    assert stage.source.committed == {1: 60}
    assert not stage.recorded("fetch")


def test_reading_pauses_while_too_many_originals_are_being_fetched() -> None:
    stage = Stage()
    stage.dead_letters.fetching_count = 100_001
    stage.turns(seconds=2.0)
    assert stage.source.paused == {1}

    stage.dead_letters.fetching_count = 0
    stage.turns()
    assert stage.source.paused == set()


def test_a_short_stop_of_reading_puts_the_poll_off_and_pauses_nothing() -> None:
    """A pause makes the client drop what it has fetched."""
    stage = Stage()
    stage.dead_letters.fetching_count = 100_001
    stage.turns(2, seconds=0.1)
    assert not stage.recorded("poll")
    assert stage.source.paused == set()

    stage.dead_letters.fetching_count = 0
    stage.turns()
    assert stage.recorded("poll")


def test_a_long_stop_of_reading_pauses_everything_and_polling_goes_on() -> None:
    stage = Stage()
    stage.dead_letters.fetching_count = 100_001
    stage.turns(10)
    assert stage.source.paused == {1}
    assert len(stage.recorded("poll")) > 1


def test_what_was_collected_is_decoded_at_once_while_other_partitions_are_paused() -> None:
    """Turns of partitions took 0.3 s longer, because the end of a partition waited for more messages."""
    stage = Stage(max_uncommitted_offsets=1)
    stage.add_changes(0)
    stage.turns(2, seconds=2.0)
    stage.source.queue.append(lambda listener: listener.on_assigned([assignment(2)]))
    stage.turns()
    assert stage.source.paused == {1}

    stage.source.queue.append(raw_batch([0], [2]))
    stage.turns(seconds=0.0)
    assert [list(batch.offsets) for batch in stage.decoder.taken] == [[0]]


def test_refused_credentials_stop_the_service_at_once_without_losing_other_answers() -> None:
    stage = Stage()
    stage.add_changes(0, location="Rome")
    stage.turns()
    stage.add_changes(3, location="Oslo")
    stage.add_changes(6, location="Bonn")
    stage.turns()
    refused = Answer(AnswerKind.UNAUTHORISED, status=401, detail="no")
    for submission, answer in zip(stage.client.submitted, (refused, refused, ACCEPTED), strict=True):
        stage.client.answer(submission, answer)
    before = stage.clock.now

    with pytest.raises(OmsRefusedError, match=r"correct oms\.api_key"):
        stage.loop.run()

    assert [decision for _, decision in stage.recorded("answered")] == ["Stop", "Stop", "Accepted"]
    assert stage.clock.now - before < 1.0


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=kind.value) for kind in (AnswerKind.UNAUTHORISED, AnswerKind.WRONG_ADDRESS)]
)
def test_refused_credentials_or_a_wrong_address_before_the_first_job_id_stop_the_service(kind: AnswerKind) -> None:
    stage = Stage()
    stage.client.reply = Answer(kind, status=401, detail="no")
    stage.add_changes(0)

    with pytest.raises(OmsRefusedError):
        stage.loop.run()


def test_a_refusal_that_arrives_in_a_revoke_stops_the_service_with_its_reason() -> None:
    """The stop gives up partitions that are being revoked already."""
    stage = Stage()
    stage.add_changes(0)
    stage.turns()
    refused = Answer(AnswerKind.UNAUTHORISED, status=401, detail="no")
    stage.client.on_wait = lambda: stage.client.answer(stage.client.submitted[0], refused)
    stage.source.queue.append(lambda listener: listener.on_revoked([1]))

    with pytest.raises(OmsRefusedError):
        stage.loop.run()
    assert stage.recorded("revoked") == [("revoked", [1])]


def test_credentials_revoked_later_pause_the_partitions_without_leaving_the_group() -> None:
    stage = Stage()
    stage.client.reply = ACCEPTED
    stage.add_changes(0)
    stage.turns(3)
    stage.client.reply = Answer(AnswerKind.UNAUTHORISED, status=401, detail="no")
    stage.add_changes(3)
    stage.turns(3, seconds=1.0)

    assert stage.source.paused == {1}
    assert stage.observer.latest is not None
    assert stage.observer.latest.sending_stopped

    stage.client.reply = ACCEPTED
    stage.turns(70, seconds=1.0)
    assert stage.source.paused == set()
    assert stage.source.committed == {1: 6}


def reject(offset: int) -> Reject:
    return Reject(ChangeId(1, offset), RejectReason.CORRUPT, "truncated", b"\0")


def test_a_reject_is_committed_once_its_dead_letter_is_confirmed() -> None:
    stage = Stage()
    stage.dead_letters.confirming = False
    stage.decoder.ready.append(decoded(frame([]), {1: 1}, [reject(0)]))
    stage.turns(10)
    assert stage.source.committed.get(1, 0) == 0

    stage.dead_letters.confirming = True
    stage.turns(10)
    assert stage.source.committed == {1: 1}


def test_an_unreachable_dead_letter_topic_stops_the_service_without_a_commit() -> None:
    stage = Stage()
    stage.dead_letters.failing = "dead-letter topic 'x' is not reachable"
    stage.decoder.ready.append(decoded(frame([]), {1: 1}, [reject(0)]))

    with pytest.raises(DeadLettersError, match="not reachable"):
        stage.loop.run()
    assert stage.source.committed.get(1, 0) == 0


def test_too_many_rejects_stop_the_service_before_they_are_dead_lettered() -> None:
    stage = Stage()
    stage.client.reply = ACCEPTED
    stage.add_changes(0)
    stage.turns(10)
    rejects = [reject(offset) for offset in range(3, 2_003)]
    stage.decoder.ready.append(decoded(frame([]), {1: 2_003}, rejects))

    with pytest.raises(DeadLettersError, match=r"dead_letters\.max_ratio"):
        stage.loop.run()
    assert stage.recorded("dead letters") == []
    assert stage.source.committed == {1: 3}


def test_more_to_read_again_than_fits_stops_the_service_and_names_the_setting() -> None:
    stage = Stage(max_pending_bytes=1_000, in_hand_bytes_max=0)
    again = assignment(2, metadata="v1;500;0;")
    stage.source.queue.append(lambda listener: listener.on_assigned([again]))
    stage.turns(2)
    rows = [change("Rome", f"sku-{at}", offset=at, assignment=2) for at in range(100)]
    stage.decoder.ready.append(decoded(frame(rows), {2: 100}))

    with pytest.raises(SettingsError, match=r"^memory\.budget: .* read again"):
        stage.loop.run()
    assert stage.source.committed.get(2, 0) == 0


def test_while_the_decoder_is_full_all_partitions_pause_and_polling_goes_on() -> None:
    stage = Stage()
    stage.decoder.has_room = False
    stage.turns(20)
    polls = len(stage.recorded("poll"))

    assert stage.source.paused == {1}
    assert 2 <= polls <= 5

    stage.decoder.has_room = True
    stage.turns(2)
    assert stage.source.paused == set()


def test_a_committed_offset_outside_the_log_is_reported_and_not_committed_again() -> None:
    stage = Stage()
    stage.source.queue.append(lambda listener: listener.on_assigned([assignment(2, committed=5, low=100, high=200)]))
    stage.turns()

    assert ("out of range", 2) in stage.diary
    assert 2 not in stage.source.committed


def test_an_idle_poll_waits_for_a_quarter_of_a_second() -> None:
    stage = Stage()
    stage.turns(2)

    assert [seconds for _, seconds in stage.recorded("poll")] == [pytest.approx(0.25)] * 2


def test_while_little_is_read_an_answer_ends_the_wait_and_no_poll_waits() -> None:
    stage = Stage()
    stage.add_changes(0)
    stage.turns()
    stage.diary.clear()
    stage.client.on_wait = lambda: stage.client.answer(stage.client.submitted[0], ACCEPTED)
    stage.turns()

    assert stage.recorded("wait", "poll", "answered") == [
        ("wait", pytest.approx(0.1)),
        ("poll", 0.0),
        ("answered", "Accepted"),
    ]


def test_while_much_is_read_a_poll_is_short_if_requests_are_in_flight() -> None:
    stage = Stage()
    stage.source.queue.append(raw_batch(range(1_000), [1] * 1_000))
    stage.add_changes(0)
    stage.turns()
    stage.diary.clear()
    stage.turns()

    assert stage.recorded("wait", "poll") == [("poll", 0.005)]


def test_no_poll_is_cut_short_by_a_deadline_that_waits_for_the_next_round() -> None:
    stage = Stage(options=LoopOptions(round_interval_seconds=5.0))
    stage.client.reply = ACCEPTED
    stage.add_changes(0)
    stage.turns(2)
    overdue = stage.clock.now - 60.0
    stage.decoder.ready.append(decoded(frame([change("Oslo", "sku-1", offset=3)]), {1: 4}, polled_at=overdue))
    stage.turns(seconds=0.0)
    stage.diary.clear()
    deadline = stage.engine.next_deadline(stage.clock.now)
    assert deadline is not None
    assert deadline <= stage.clock.now
    stage.turns(seconds=0.0)

    assert [seconds for _, seconds in stage.recorded("poll")] == [pytest.approx(0.25)]


def test_little_is_collected_before_it_is_decoded_and_keeps_the_time_of_its_poll() -> None:
    stage = Stage()
    stage.source.queue.append(raw_batch([0, 1], [1, 1]))
    stage.turns()
    polled_at = stage.clock.now
    stage.source.queue.append(raw_batch([2], [1]))
    stage.turns(seconds=0.0)
    assert stage.decoder.taken == []

    stage.turns(seconds=0.0)
    (taken,) = stage.decoder.taken
    assert taken.offsets == [0, 1, 2]
    assert taken.polled_at == polled_at
    assert stage.clock.now - polled_at == pytest.approx(0.3)


def test_much_is_decoded_at_once() -> None:
    stage = Stage()
    stage.source.queue.append(raw_batch(range(1_000), [1] * 1_000))
    stage.turns()

    assert [len(batch) for batch in stage.decoder.taken] == [1_000]


def test_what_is_collected_waits_for_room_in_the_decoder() -> None:
    stage = Stage()
    stage.source.queue.append(raw_batch([0], [1]))
    stage.turns()
    stage.decoder.has_room = False
    stage.turns(3)
    assert stage.decoder.taken == []

    stage.decoder.has_room = True
    stage.turns()
    assert [batch.offsets for batch in stage.decoder.taken] == [[0]]


def test_what_a_recovering_partition_brings_is_decoded_at_once() -> None:
    stage = Stage()
    recovering = assignment(2, committed=5, metadata="v1;9;0;")
    stage.source.queue.append(lambda listener: listener.on_assigned([recovering]))
    stage.source.queue.append(raw_batch([5], [2]))
    stage.turns()

    assert [batch.offsets for batch in stage.decoder.taken] == [[5]]


@pytest.mark.parametrize("event", ["on_revoked", "on_lost"])
def test_a_rebalance_ends_the_collecting(event: str) -> None:
    stage = Stage()
    stage.source.queue.append(raw_batch([0], [1]))
    stage.turns()
    stage.source.queue.append(lambda listener: getattr(listener, event)([1]))
    stage.turns(seconds=0.0)

    assert [batch.offsets for batch in stage.decoder.taken] == [[0]]


def test_a_change_is_due_max_age_after_its_poll_however_long_it_waited_for_others() -> None:
    stage = Stage()
    polled_at = stage.clock.now
    stage.clock.now += 2.0
    stage.decoder.ready.append(decoded(frame([change("Rome", "sku-1")]), {1: 1}, polled_at=polled_at))
    stage.turns()
    while not stage.client.submitted:
        stage.turns(seconds=0.0)

    assert stage.clock.now == pytest.approx(polled_at + 10.0)


def test_the_snapshot_has_the_last_known_log_end_of_every_partition() -> None:
    stage = Stage()
    stage.turns()

    assert stage.observer.latest is not None
    assert [view.end_offset for view in stage.observer.latest.partitions] == [20]


def test_pending_changes_by_location_are_reported_at_the_configured_interval() -> None:
    stage = Stage(options=LoopOptions(locations_interval_seconds=5.0))
    stage.add_changes(0, count=2)
    stage.turns(30)
    assert stage.recorded("pending") == [("pending", {"Rome": 2})] * 2


def test_pending_changes_by_location_are_not_computed_unless_configured() -> None:
    stage = Stage()
    stage.add_changes(0, count=2)
    stage.turns(50)
    assert stage.recorded("pending") == []


def test_what_locations_do_is_reported_once_a_second_while_somebody_looks() -> None:
    stage = Stage()
    stage.add_changes(0, count=2)
    stage.turns(20)
    assert stage.recorded("views") == []

    stage.views_wanted = True
    began = stage.clock.now
    stage.turns(20)
    seconds = stage.clock.now - began
    reported = stage.recorded("views")
    assert 2 <= len(reported) <= seconds + 1
    assert set(reported) == {("views", "Rome")}


def test_observers_see_when_memory_is_short() -> None:
    stage = Stage()
    stage.memory_pressure = True
    stage.turns(2)
    assert stage.observer.latest
    assert stage.observer.latest.memory_pressure
    stage.memory_pressure = False
    stage.turns(2)
    assert not stage.observer.latest.memory_pressure


def test_while_a_full_job_queue_stops_sending_reports_of_jobs_set_the_pace_and_not_long_polls() -> None:
    stage = Stage(follow_jobs=True)
    for offset in (0, 3):
        stage.client.reply = Answer(AnswerKind.ACCEPTED, job_id=str(offset), status=200)
        stage.add_changes(offset)
        stage.turns(3)
    stage.turns(20)
    assert stage.jobs.asked[:1] == ["0"]
    stage.diary.clear()
    stage.turns(1)
    options = LoopOptions()
    assert stage.recorded("poll") == [("poll", options.poll_seconds_busy)]

    stage.jobs.ready.append(JobReport("0", JobStatus.SUCCESS))
    stage.turns(1)
    stage.diary.clear()
    stage.turns(1)
    assert stage.recorded("poll") == [("poll", options.poll_seconds_max)]


def test_a_partition_that_waits_for_a_schema_is_paused_when_too_much_is_parked() -> None:
    stage = Stage(options=LoopOptions(parked_bytes_max=1))
    stage.source.queue.append(raw_batch([10, 11], [1, 1]))
    stage.loop.turn()
    stage.clock.now += 1.0
    stage.loop.turn()
    stage.decoder.ready.append(replace(decoded(frame([]), {1: 10}), awaits={1: AwaitedSchema(10, "schema 7")}))
    stage.turns(2, seconds=1.0)
    assert stage.source.paused == {1}
    assert stage.source.committed.get(1, 10) <= 10

    stage.loop.turn()
    retried = stage.decoder.taken[-1]
    assert (list(retried.offsets), len(stage.decoder.taken)) == ([10, 11], 2)
    rows = [change("Rome", f"sku-{offset}", offset=offset) for offset in (10, 11)]
    stage.decoder.ready.append(decoded(frame(rows), {1: 12}))
    stage.loop.turn()

    assert stage.source.paused == set()
    assert stage.engine.pending_changes == 2


def test_a_request_has_one_id_for_the_oms_the_observers_and_the_dead_letters_of_its_changes() -> None:
    stage = Stage(options=LoopOptions(instance="0badc0ffee"))
    facts: list[Fact] = []

    def observe(fact: Fact) -> None:
        facts.append(fact)

    stage.observer.observe = observe  # type: ignore[method-assign]
    stage.client.reply = Answer(AnswerKind.REFUSED, status=400, detail="no such item")
    stage.add_changes(0, count=1)
    stage.turns(60)

    sent = [fact.x_request_id for fact in facts if isinstance(fact, RequestSent)]
    assert sent[0] == "0badc0ffee-1"
    assert [submission.x_request_id for submission in stage.client.submitted] == sent
    assert [fact.x_request_id for fact in facts if isinstance(fact, RequestAnswered)] == sent
    (failed,) = [changes for _, fetched in stage.recorded("fetch") for changes in fetched]
    assert failed.x_request_id == sent[-1]


def test_changes_that_no_request_had_have_dead_letters_without_the_id_of_one() -> None:
    stage = Stage()
    stage.decoder.ready.append(decoded(frame([change("Rome", "sku-0", offset=0)]), {1: 1}))
    stage.turns()
    barriers = frame([change("Rome", "sku-0", offset=1)])
    stage.decoder.ready.append(
        replace(
            decoded(frame([]), {1: 2}, [Reject(ChangeId(1, 1), RejectReason.NEGATIVE_QUANTITY, "", b"v")]),
            barriers=barriers,
        )
    )
    stage.turns()

    (failed,) = [changes for _, fetched in stage.recorded("fetch") for changes in fetched]
    assert (failed.reason, failed.x_request_id) == (RejectReason.SUPERSEDED_BY_REJECT, None)
