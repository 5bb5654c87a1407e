"""An OMS outage with a large backlog: memory use of the service, as a process on a real Kafka."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import pytest

from consumer.settings.memory import MIB, memory_shares
from tests.support.fleet import Fleet, OpenFleet
from tests.support.service_process import ServiceProcess

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

CHANGES: Final = 60_000
SHARES: Final = memory_shares(4 * MIB)
"""Of a budget that holds a third of the changes."""
POLL_MESSAGES: Final = 200
POLL_INTERVAL_SECONDS: Final = 15.0
"""``max.poll.interval.ms``: longer than a busy machine delays a process."""
OUTAGE_SECONDS: Final = 1.2 * POLL_INTERVAL_SECONDS
GROWTH_BYTES_MAX: Final = 30 * 2**20


@dataclass
class Samples:
    """Memory use and backlog of a process over time, in bytes."""

    pending: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    paused: set[int] = field(default_factory=set)

    def take(self, member: ServiceProcess) -> Self:
        """Take one more sample."""
        snapshot = member.snapshot()
        self.pending.append(snapshot["pending_bytes"])
        self.bytes.append(resident_bytes(member.pid))
        self.paused |= {partition["partition"] for partition in snapshot["partitions"] if partition["paused"]}
        return self


def resident_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return 1024 * int(line.split()[1])


def test_during_an_oms_outage_the_backlog_stays_in_kafka_and_all_of_it_is_sent_afterwards(fleet: OpenFleet) -> None:
    members = full_topic(fleet)
    member = members.start(
        "a",
        kafka={"properties": members.properties, "poll_messages_max": POLL_MESSAGES},
        window={"flush_items": 3_000},
        memory={"budget": "4MiB"},
    )
    members.wait_until_shared("a")
    samples = Samples()
    members.wait_until(lambda: len(samples.take(member).paused) == 4, "all partitions are paused")
    bytes_at_first = samples.bytes[-1]
    until = time.monotonic() + OUTAGE_SECONDS
    members.wait_until(lambda: bool(samples.take(member)) and time.monotonic() > until, "the outage is over")
    assert max(members.committed().values()) <= 0
    assert not members.ledger.counts()

    members.sandbox.state.clear_faults()
    members.wait_until(lambda: bool(samples.take(member)) and len(members.ledger.counts()) == CHANGES, "all is sent")
    members.finish()
    assert SHARES.pending_bytes < max(samples.pending) <= SHARES.pending_bytes + SHARES.decoder_bytes
    assert max(samples.bytes) - bytes_at_first < GROWTH_BYTES_MAX
    assert members.ledger.repeated() == {}, "changes were sent twice"
    assert [len(member.events(f"partitions_{kind}")) for kind in ("assigned", "revoked", "lost")] == [1, 0, 0]
    assert "MAXPOLL" not in member.output()


def full_topic(fleet: OpenFleet) -> Fleet:
    """A topic with many changes, all of different items, and an OMS that answers that it is unavailable."""
    poll_interval_ms = int(1000 * POLL_INTERVAL_SECONDS)
    members = fleet(
        items=CHANGES,
        locations=20,
        one_offs=False,
        session_ms=poll_interval_ms,
        **{"max.poll.interval.ms": poll_interval_ms, "queued.max.messages.kbytes": 1_024},
    )
    members.add_faults(rules=[{"fault": "outage"}])
    members.stock.publish()
    return members
