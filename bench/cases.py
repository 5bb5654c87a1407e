"""The cases: what is published, how the service is set, and what stands for the OMS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from consumer.settings.values import OMS_ITEMS_MAX

GIB: Final = 2**30
CHUNK_ITEMS: Final = 3_000
"""The service's default, as the OMS has it."""
LONG_AGE_SECONDS: Final = 300.0
"""The service's default. A case with it has no request that waits for its age, or it takes so long that one sees it."""

TIGHT_PENDING_BYTES: Final = 5_000_000
"""Room for about a tenth of the changes that full windows of 100 locations x 5,000 items need."""

Shape = Literal["usual", "wide", "mixed", "debezium"]
"""Of the events: a few fields; all fields; a few fields, in two versions of the schema in turn; a Debezium envelope
with the row before and after, and with decimals."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case. Each location has ``items_per_location`` items, and each item has ``changes_per_item`` changes."""

    name: str
    what: str
    """One line for readers of the table."""
    locations: int
    items_per_location: int
    changes_per_item: int = 1
    shape: Shape = "usual"
    bad_per_thousand: int = 0
    """Bad events, in addition to the changes."""
    keyed_by: Literal["location", "item"] = "location"
    partitions: int = 6
    changes_per_second: int | None = None
    """The topic is filled at this rate while the service runs; None: it is full before the service starts."""

    flush_items: int = OMS_ITEMS_MAX
    chunk_items: int = CHUNK_ITEMS
    max_age_seconds: float = LONG_AGE_SECONDS
    pending_bytes_max: int | None = None
    """Limit of the engine; None: what the memory budget gives."""
    members: int = 1
    memory_bytes: int | None = None
    """Limit of a memory cgroup for the service."""
    seconds_per_chunk: float = 0.0
    """How long the sink works on a chunk, one request at a time; it answers afterwards."""

    tail_share: float = 0.0
    """Share of the items that may wait for their age at the end. The rate is that of the items before them."""
    seconds_max: float = 240.0
    by_hand: bool = False
    """Only measured when it is asked for by name."""

    @property
    def items(self) -> int:
        """Distinct items."""
        return self.locations * self.items_per_location

    @property
    def changes(self) -> int:
        """Valid changes."""
        return self.items * self.changes_per_item

    @property
    def bad_events(self) -> int:
        return self.changes * self.bad_per_thousand // 1_000

    @property
    def events(self) -> int:
        """Messages in the topic."""
        return self.changes + self.bad_events

    @property
    def fewest_chunks(self) -> int:
        """If each location's items left together, each once."""
        return self.locations * math.ceil(self.items_per_location / self.chunk_items)

    @property
    def is_paced(self) -> bool:
        return self.changes_per_second is not None

    @property
    def sends_items_once(self) -> bool:
        """Whether an item that comes twice is an error: not if it has several changes, or its reader may change."""
        return self.changes_per_item == 1 and self.members == 1


_BACKLOG: Final = Case(
    name="backlog",
    what="3 M changes, 125 locations, requests of up to 12,000 items, memory limit 1 GiB",
    locations=125,
    items_per_location=24_000,
    max_age_seconds=30.0,
    memory_bytes=GIB,
    tail_share=0.1,
)
_NIGHTLY: Final = Case(
    name="nightly",
    what="9 M changes of 1,000 locations in 12 partitions, keyed by location",
    locations=1_000,
    items_per_location=9_000,
    partitions=12,
    max_age_seconds=60.0,
    memory_bytes=GIB,
    tail_share=0.1,
    seconds_max=900.0,
    by_hand=True,
)

CASES: Final[Sequence[Case]] = (
    Case(
        name="distinct",
        what="1 M changes of 1 M items, 100 locations, 5,000 items a request",
        locations=100,
        items_per_location=10_000,
        flush_items=5_000,
        chunk_items=5_000,
    ),
    Case(
        name="many",
        what="999,000 changes, 3,000 locations, 333 items a request",
        locations=3_000,
        items_per_location=333,
        flush_items=333,
        chunk_items=333,
    ),
    Case(
        name="hot",
        what="1 M changes of 20,000 items in random order, 10 locations",
        locations=10,
        items_per_location=2_000,
        changes_per_item=50,
        flush_items=2_000,
        chunk_items=2_000,
        max_age_seconds=5.0,
        tail_share=0.25,
    ),
    Case(
        name="wide",
        what="500,000 events of all fields with 12 attributes each, 100 locations, 2,500 items a request",
        locations=100,
        items_per_location=5_000,
        shape="wide",
        flush_items=2_500,
        chunk_items=2_500,
    ),
    Case(
        name="debezium",
        what="as distinct, as updates in Debezium envelopes, with decimals",
        locations=100,
        items_per_location=10_000,
        shape="debezium",
        flush_items=5_000,
        chunk_items=5_000,
    ),
    Case(
        name="mixed",
        what="as distinct, in two versions of the schema in turn, from a registry",
        locations=100,
        items_per_location=10_000,
        shape="mixed",
        flush_items=5_000,
        chunk_items=5_000,
    ),
    Case(
        name="poison",
        what="as distinct, with 0.1 % bad events",
        locations=100,
        items_per_location=10_000,
        bad_per_thousand=1,
        flush_items=5_000,
        chunk_items=5_000,
    ),
    Case(
        name="trickle",
        what="50 changes a second over 200 locations for 24 s, max_age 5 s",
        locations=200,
        items_per_location=6,
        changes_per_second=50,
        max_age_seconds=5.0,
    ),
    _BACKLOG,
    Case(
        name="slow",
        what="240,000 changes in 10 s, the sink takes 0.3 s a chunk and one request at a time, max_age 3 s",
        locations=30,
        items_per_location=8_000,
        changes_per_second=24_000,
        max_age_seconds=3.0,
        seconds_per_chunk=0.3,
    ),
    Case(
        name="members",
        what="as distinct, three members of one group",
        locations=100,
        items_per_location=10_000,
        flush_items=5_000,
        chunk_items=5_000,
        max_age_seconds=5.0,
        members=3,
        tail_share=0.1,
    ),
    Case(
        name="tight",
        what="as distinct, with room for a tenth of the changes that full windows need",
        locations=100,
        items_per_location=10_000,
        flush_items=5_000,
        chunk_items=5_000,
        max_age_seconds=20.0,
        pending_bytes_max=TIGHT_PENDING_BYTES,
        tail_share=0.1,
        by_hand=True,
    ),
    replace(
        _BACKLOG,
        name="backlog-small",
        what="as backlog, with 512 MiB",
        memory_bytes=GIB // 2,
        seconds_max=600.0,
        by_hand=True,
    ),
    replace(
        _BACKLOG,
        name="backlog-wide",
        what="as backlog, with the events of wide",
        shape="wide",
        seconds_max=600.0,
        by_hand=True,
    ),
    _NIGHTLY,
    replace(
        _NIGHTLY,
        name="nightly-by-item",
        what="the same keyed by item: each location in every partition",
        keyed_by="item",
    ),
)

_MINI_CHUNK_ITEMS: Final = 30
_MINI_LOCATIONS: Final = 10
_MINI_AGE_SECONDS: Final = 1.0
_MINI_SECONDS_PER_CHUNK: Final = 0.02
_MINI_CHANGES_PER_SECOND_MIN: Final = 50
_MINI_SECONDS_MAX: Final = 200.0
"""Long enough for a busy machine: the time decides nothing in a miniature."""


def chosen(names: Sequence[str]) -> list[Case]:
    """The cases with these names, in the order of ``CASES``; without names all that are not by hand.

    Raises ValueError for a name that no case has.
    """
    known = [case.name for case in CASES]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"there is no case {', '.join(unknown)}: the cases are {', '.join(known)}")
    return [case for case in CASES if (case.name in names if names else not case.by_hand)]


def miniature(case: Case) -> Case:
    """The case with chunks of 30 items and at most 10 locations, and all else in proportion.

    It fits an embedded broker. What waits for its age waits a second; a case that need not wait keeps its long one.
    """
    scale = _MINI_CHUNK_ITEMS / case.chunk_items
    pace = case.changes_per_second
    return replace(
        case,
        locations=min(case.locations, _MINI_LOCATIONS),
        items_per_location=max(round(case.items_per_location * scale), 1),
        changes_per_item=min(case.changes_per_item, 5),
        bad_per_thousand=case.bad_per_thousand * 10,
        changes_per_second=None if pace is None else max(round(pace * scale), _MINI_CHANGES_PER_SECOND_MIN),
        flush_items=round(case.flush_items * scale),
        chunk_items=_MINI_CHUNK_ITEMS,
        max_age_seconds=case.max_age_seconds if _never_waits(case) else _MINI_AGE_SECONDS,
        pending_bytes_max=None,
        seconds_per_chunk=min(case.seconds_per_chunk, _MINI_SECONDS_PER_CHUNK),
        seconds_max=_MINI_SECONDS_MAX,
    )


def _never_waits(case: Case) -> bool:
    return case.max_age_seconds == LONG_AGE_SECONDS
