"""How the memory budget is divided among all that grows: pure arithmetic, from one number of bytes.

A container has a limit; above it the kernel kills the process. Part of it is fixed (``FIXED_BYTES``), and of the rest
the budget is half: what is counted are payloads, and a process needs more than it counts (freed pages that the
allocator keeps, copies for a moment, fragments). ``PARTS`` says what each part of the budget is for.

From ``SIDE_COMMAND_LIMIT_BYTES_MIN`` on, that leaves room for a command next to the service, too: of a limit of 512 MiB
the service takes about 310 MiB at its peak, of 1 GiB about 650 MiB (docs/performance.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from consumer.errors import SettingsError

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

FIXED_BYTES: Final = 128 * MIB
"""Interpreter, libraries and threads."""
SIDE_COMMAND_BYTES: Final = 128 * MIB
"""What a command such as ``plan`` or ``dead-letters`` may take next to the service, in its container."""
SIDE_COMMAND_LIMIT_BYTES_MIN: Final = 512 * MIB
"""With a lower limit of its container, the service may need what such a command would take."""
ASSUMED_LIMIT_BYTES: Final = 512 * MIB
"""Taken as the limit where there is none."""
BUDGET_SHARE: Final = Fraction(1, 2)
"""Of what the fixed part leaves."""
BUDGET_BYTES_MIN: Final = 4 * MIB
BUDGET_BYTES_MAX: Final = 1024 * GIB

Budget = int | Literal["auto"]


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """The bytes that each part of the service may take; together they are the budget."""

    budget_bytes: int
    pending_bytes: int
    coalescing_bytes: int
    decoder_bytes: int
    parked_bytes: int
    bodies_bytes: int
    consumer_queue_bytes: int
    job_offsets_bytes: int
    trace_bytes: int
    dead_letter_queue_bytes: int
    originals_bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the budget: the field of ``MemoryShares``, its share, what it bounds and why it is this large.

    More than ``bytes_max`` would not be used: what a large budget has beyond that goes to pending rows.
    """

    field: str
    share: Fraction
    bounds: str
    reason: str
    bytes_max: int | None = None


PARTS: Final[Sequence[Part]] = (
    Part(
        "pending_bytes",
        Fraction(29, 64),
        "rows that wait in windows, recover or are in flight, with their offsets",
        "The larger, the fuller the requests: everything else only has to keep up",
    ),
    Part(
        "coalescing_bytes",
        Fraction(1, 8),
        "copies while blocks of rows are merged or coalesced in place",
        "One block at a time is written again while the old one still exists",
    ),
    Part(
        "decoder_bytes",
        Fraction(1, 8),
        "messages and frames between a poll and the engine",
        "Two frames of 30,000 usual messages, so that the decoder need not idle",
        bytes_max=64 * MIB,
    ),
    Part(
        "parked_bytes",
        Fraction(1, 32),
        "messages of partitions that wait for a schema which the registry does not know yet",
        "10,000 usual messages; then these partitions are paused, so more would only save a second fetch",
        bytes_max=16 * MIB,
    ),
    Part(
        "bodies_bytes",
        Fraction(1, 8),
        "request bodies in flight, and their copies while they are made",
        "Eight usual requests of 12,000 items at once; larger ones take turns",
        bytes_max=256 * MIB,
    ),
    Part(
        "consumer_queue_bytes",
        Fraction(1, 16),
        "messages that the Kafka consumer has fetched ahead (`queued.max.messages.kbytes`, `queued.min.messages`)",
        "Smaller queues are faster: a large one makes the kernel clear fresh pages",
        bytes_max=32 * MIB,
    ),
    Part(
        "job_offsets_bytes",
        Fraction(1, 32),
        "offsets of the changes in unfinished jobs, kept for their dead letters",
        "12 kB a job of 12,000 changes, so about 1,000 jobs at 1 GiB",
        bytes_max=64 * MIB,
    ),
    Part(
        "trace_bytes",
        Fraction(1, 64),
        "what has become of the latest changes that have left, for `/api/trace`",
        "16 to 32 bytes a change: about 300,000 at 1 GiB. What is forgotten can still be found in the topics",
        bytes_max=32 * MIB,
    ),
    Part(
        "dead_letter_queue_bytes",
        Fraction(1, 64),
        "dead letters that the broker has not confirmed",
        "Dead letters are rare; when there are many, the topic sets the pace",
        bytes_max=8 * MIB,
    ),
    Part(
        "originals_bytes",
        Fraction(1, 64),
        "original records of refused changes: fetched and not yet dead-lettered, and the queue of their consumer",
        "They are needed for dead letters only, and arrive as fast as those leave",
        bytes_max=8 * MIB,
    ),
)
"""Every part of the budget. The shares add up to one. docs/configuration.md has the table made from this."""


def budget_bytes(budget: Budget, limit_bytes: int | None) -> int:
    """The budget, from the setting and the container's limit (None: there is none).

    Raises SettingsError if the setting asks for more than the limit leaves.
    """
    if budget == "auto":
        left = (limit_bytes or ASSUMED_LIMIT_BYTES) - FIXED_BYTES
        return max(int(left * BUDGET_SHARE), BUDGET_BYTES_MIN)
    if limit_bytes is not None and budget > limit_bytes - FIXED_BYTES:
        left = max(limit_bytes - FIXED_BYTES, 0)
        raise SettingsError(
            f"memory.budget: {size(budget)} is more than the container's limit of {size(limit_bytes)} leaves: "
            f"{size(left)} after {size(FIXED_BYTES)} for the process itself, of which half is advisable; set less or "
            "auto, or raise the limit"
        )
    return budget


def assumed_limit_bytes(budget: int, limit_bytes: int | None) -> int:
    """The limit against which use is judged: the container's, or else one that suits the budget."""
    return limit_bytes or max(ASSUMED_LIMIT_BYTES, FIXED_BYTES + int(budget / BUDGET_SHARE))


def memory_shares(budget: int) -> MemoryShares:
    """The parts of a budget in bytes."""
    parts = {part.field: min(int(budget * part.share), part.bytes_max or budget) for part in PARTS}
    parts["pending_bytes"] += budget - sum(parts.values())
    return MemoryShares(budget_bytes=budget, **parts)


def size(count: int) -> str:
    """A number of bytes in the largest unit that leaves no fraction, or in whole MiB: ``448MiB``, ``1GiB``."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit}{name}"
    return f"{count / MIB:.0f}MiB"


DEFAULT_SHARES: Final = memory_shares(budget_bytes("auto", None))
"""Without a limit and without a setting."""
