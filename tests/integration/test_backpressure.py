"""A full topic behind an OMS that is away: what is held in memory, by the service as a process on a real Kafka."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import pytest

from consumer.avro.decoder_thread import BATCHES_PENDING_MAX
from tests.support.fleet import Fleet, OpenFleet
from tests.support.service_process import ServiceProcess

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

CHANGES: Final = 60_000
BUDGET: Final = 5_000
POLL_MESSAGES: Final = 200
POLL_INTERVAL_SECONDS: Final = 15.0
"""What the group allows between two polls: more than a busy machine lets a process stand still."""
OUTAGE_SECONDS: Final = 1.2 * POLL_INTERVAL_SECONDS
GROWTH_BYTES_MAX: Final = 30 * 2**20


@dataclass
class Samples:
    """What a process was seen to hold, time after time."""

    pending: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    paused: set[int] = field(default_factory=set)

    def take(self, member: ServiceProcess) -> Self:
        """One more sample."""
        snapshot = member.snapshot()
        self.pending.append(snapshot["pending_changes"])
        self.bytes.append(resident_bytes(member.pid))
        self.paused |= {each["partition"] for each in snapshot["partitions"] if each["paused"]}
        return self


def resident_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return 1024 * int(line.split()[1])


def test_during_an_oms_outage_the_backlog_stays_in_kafka_and_all_of_it_is_sent_afterwards(fleet: OpenFleet) -> None:
    ours = full_topic(fleet)
    member = ours.start(
        "a",
        kafka={"properties": ours.properties, "poll_messages_max": POLL_MESSAGES},
        window={"max_pending_changes": BUDGET, "flush_items": 3_000},
    )
    ours.wait_until_shared("a")
    samples = Samples()
    ours.wait_until(lambda: len(samples.take(member).paused) == 4, "all partitions are paused")
    bytes_at_first = samples.bytes[-1]
    until = time.monotonic() + OUTAGE_SECONDS
    ours.wait_until(lambda: bool(samples.take(member)) and time.monotonic() > until, "the outage lasts")
    assert max(ours.committed().values()) <= 0
    assert not ours.ledger.counts()

    ours.sandbox.state.clear_faults()
    ours.wait_until(lambda: bool(samples.take(member)) and len(ours.ledger.counts()) == CHANGES, "all is sent")
    ours.finish()
    assert BUDGET < max(samples.pending) <= BUDGET + BATCHES_PENDING_MAX * POLL_MESSAGES
    assert max(samples.bytes) - bytes_at_first < GROWTH_BYTES_MAX
    assert ours.ledger.repeated() == {}, "a position was lost"
    assert [len(member.events(f"partitions_{kind}")) for kind in ("assigned", "revoked", "lost")] == [1, 0, 0]
    assert "MAXPOLL" not in member.output()


def full_topic(fleet: OpenFleet) -> Fleet:
    """Many changes, each of an item of its own, and an OMS that says it is unavailable."""
    poll_interval_ms = int(1000 * POLL_INTERVAL_SECONDS)
    ours = fleet(
        items=CHANGES,
        locations=20,
        one_offs=False,
        session_ms=poll_interval_ms,
        **{"max.poll.interval.ms": poll_interval_ms, "queued.max.messages.kbytes": 1_024},
    )
    ours.add_faults(rules=[{"fault": "outage"}])
    ours.stock.publish()
    return ours
