"""The plan of a seed: limits and sizes, what is produced when, and which faults happen when.

A plan is data, so that a failing one can be shortened by dropping entries and faults and setting rates to zero.
All times are simulated seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random
from typing import Any, Final

from tests.simulation.world import new_random

LOCATIONS: Final = ("Berlin", "Rome", "Oslo", "Lima")
SESSION_SECONDS: Final = 10.0
HEARTBEAT_SECONDS: Final = 1.0
FENCE_SECONDS: Final = (SESSION_SECONDS - HEARTBEAT_SECONDS) / 2
"""As ``app.py`` computes it."""
POLL_SECONDS_MAX: Final = 30.0
"""max.poll.interval.ms."""
REVOKE_SECONDS_MAX: Final = 6.0
"""Above the fence, below ``POLL_SECONDS_MAX``."""
FAULTY_SECONDS: Final = 80.0
REFUSALS_SHARE: Final = 0.15
"""Share of plans with the theme ``REFUSALS``."""
LOCATIONS_SHARE: Final = 0.08
"""Share of plans with the theme ``LOCATIONS``."""
LOST_ANSWERS_SHARE: Final = 0.06
"""Share of plans with the theme ``LOST_ANSWERS``."""
SMART_REFRESH_SHARE: Final = 0.06
"""Share of plans with the theme ``SMART_REFRESH``."""
SET_ASIDE_SECONDS: Final = 40.0
"""``oms.set_aside_max``."""
PROBE_SECONDS: Final = 2.0
"""Until the first probe of a location that is set aside; a gateway's page counts if it comes again so much later."""
HEALTHY_LOCATION: Final = "Kiel"
"""With the theme ``LOCATIONS``: it has a change now and then, which is accepted."""
HEALTHY_CHANGES: Final = 60
BAD_SECONDS: Final = 20.0
"""With the theme ``LOCATIONS``: upstream may send nothing but bad counts for so long."""
HEALED_SECONDS_MAX: Final = 900.0
"""Time to send everything after the last fault; long, because a throttled rate recovers slowly."""
ROOMY: Final = 10_000
"""A limit that no plan reaches."""
FEW_JOBS: Final = 3
"""A list that is cut there lacks jobs that have not ended."""
LISTED_JOBS_MAX: Final = 12
"""Of jobs in a list, so that it often lacks older ones."""
LINES_MAX: Final = 5
NUMBERS_PER_OFFSET: Final = 10
"""An offset's changes are numbered from a multiple of this on."""
LITTLE_MEMORY: Final = 6
"""Pending changes that fit into the memory of a process during ``LESS_MEMORY``."""
OPERATOR_SECONDS: Final = 400.0
"""After the faults: until an operator makes a location known, or raises ``dead_letters.max_ratio`` to 1."""
LESS_MEMORY_SHARE: Final = 0.35
"""Share of plans with that fault."""
BACKLOG_SHARE: Final = 0.2
"""Share of plans with a backlog that does not fit into memory."""
BACKLOG_CHANGES: Final = 400
CHUNK_ITEMS: Final = 3
SCHEMA_WAIT_SECONDS: Final = 30.0
"""``avro.unknown_schema_wait``."""
PARKED_MESSAGES_MAX: Final = 20
"""About as many messages are parked before the partitions that wait are paused."""
MAX_ITEMS: Final = 12


class EntryKind(StrEnum):
    CHANGE = "change"
    BAD = "bad"
    """The OMS refuses any request with this change's count or fields."""
    REJECT = "reject"
    """A message that cannot be decoded."""
    TOMBSTONE = "tombstone"
    GAP = "gap"
    """An offset without a message: a transaction marker, or removed by compaction."""
    BARRIER = "barrier"
    """A change with a negative count: it is rejected, and older counts of its item must not leave after it."""
    EVENT = "event"
    """An event with several changes, its lines."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One offset of a partition's log. ``number`` is also the quantity, so that a count identifies its change.

    ``lines`` are the changes of an event with several, each with its own number; the later has the higher one.
    """

    at: float
    partition: int
    kind: EntryKind
    number: int
    item: str = ""
    location: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple["Entry", ...] = ()

    @property
    def changes(self) -> tuple["Entry", ...]:
        """Its lines; an event with a single change is that change."""
        return self.lines or (self,)

    schema_known_at: float = 0.0
    """When the registry learns of its schema; infinite for junk that looks like an id."""


class FaultKind(StrEnum):
    PAUSE = "pause"
    """SIGSTOP: the whole member stands still, workers and heartbeats included."""
    KILL = "kill"
    """SIGKILL; restarted after ``seconds``."""
    RESTART = "restart"
    """SIGTERM; restarted once it has ended."""
    DISCONNECT = "disconnect"
    """The member cannot reach the broker."""
    MOVE = "move partition"
    """A rebalance that moves a partition to another owner."""
    OMS_DOWN = "OMS unavailable"
    OMS_REFUSES = "OMS refuses"
    """The OMS refuses the credentials, the permission or the address."""
    LOCATION_REFUSED = "location refused"
    """The OMS or a gateway refuses whatever is sent for one location, the target."""
    ITEM_REFUSED = "item refused"
    """A gateway refuses each body that has a certain item of one location, the target."""
    TOKENS_REVOKED = "tokens revoked"
    """All tokens become invalid."""
    FOREIGN_METADATA = "foreign metadata"
    """Another tool commits a partition's offset again, with its own metadata."""
    REDRIVE = "redrive"
    """An operator redrives the dead letters."""
    BACKLOG = "backlog"
    """All members are killed and restarted after ``seconds``: a backlog waits in several partitions."""
    LESS_MEMORY = "less memory"
    """The member is killed; its processes have little memory for some time. So they may take over more than fits."""


TAKEOVERS: Final = frozenset(
    {
        FaultKind.PAUSE,
        FaultKind.KILL,
        FaultKind.RESTART,
        FaultKind.DISCONNECT,
        FaultKind.MOVE,
        FaultKind.FOREIGN_METADATA,
        FaultKind.BACKLOG,
        FaultKind.LESS_MEMORY,
    }
)
"""Faults after which a partition has a new owner, or a new assignment to the same one."""


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    kind: FaultKind
    target: int
    """A member, or the partition for ``MOVE`` and ``FOREIGN_METADATA``."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Probabilities of random faults, from 0 to 1."""

    pause: float = 0.0
    """The process is paused while it commits, submits a request, or renews a token."""
    stall: float = 0.0
    """The loop's thread stalls when it reads the clock."""
    commit_unanswered: float = 0.0
    """A commit times out; half of these were applied."""
    slow: float = 0.0
    """A step that usually takes milliseconds takes seconds."""
    oms: float = 0.0
    """A fault between worker and OMS (``Oms._faulty``)."""
    late: float = 0.0
    """Share of these faults in which the request is queued late."""
    undeliverable: float = 0.0
    """A dead letter cannot be delivered, so the service stops."""


class Theme(StrEnum):
    """The emphasis of a plan: some mutants are found only where rare faults coincide."""

    MIXED = "mixed"
    HANDOVERS = "handovers"
    """Partitions change owners all the time, while requests are queued late."""
    TOKENS = "tokens"
    """Tokens are revoked, and processes pause while they renew them."""
    REFUSALS = "refusals"
    """Many changes are bad, items have too many attributes for one request, memory is short, answers are lost."""
    LOCATIONS = "locations"
    """The OMS or a gateway refuses locations whole while it accepts others."""
    SMART_REFRESH = "smart refresh"
    """Small requests are applied at once, while jobs of the same locations may wait in a slow queue."""
    LOST_ANSWERS = "lost answers"
    """Answers are lost, and lists of jobs may end holds; or another sender has jobs of the same sizes."""


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    seed: int
    theme: Theme
    members: int
    partitions: int
    log_start: int
    flush_items: int
    max_age_seconds: float
    hold_seconds: float
    """``oms.unknown_hold``; the OMS never queues a request later than this after its worker's last fence check."""
    http_seconds: float
    """``oms.timeout``."""
    max_in_flight: int
    max_requests_per_second: float | None
    max_pending_changes: int
    max_uncommitted_offsets: int
    messages_max: int
    batches_pending_max: int
    unfinished_jobs_max: int | None
    """``oms.unfinished_jobs_max``; the OMS is slow then, so that its queue grows. None: jobs are not followed."""
    request_bytes_max: int | None
    """``oms.max_request_bytes``, in bytes as ``client.body_bytes`` counts them."""
    gateway_bytes_max: int | None
    """A larger body is answered 413; the service does not know this limit. Any single change fits."""
    has_lists: bool
    """The OMS has lists of jobs."""
    listed_jobs_max: int
    """A list of jobs has the newest ones, fewer than this or cut at as many."""
    smart_refresh: bool
    """``oms.endpoint`` is smart-refresh."""
    sync_items_max: int
    """Smart refresh applies requests with up to this many items at once."""
    only_sender: bool
    """``oms.only_sender``; otherwise another sender has jobs of the same sizes, with the theme ``LOST_ANSWERS``."""
    share_locations_min: int
    """Of so many locations more than half must be refused before nothing is dead-lettered any more."""
    token_ripens_seconds: float
    """A new token is refused for so long after the one before was revoked."""
    fixed_partition: bool
    """All changes of an item are in one partition (rule 2); otherwise the order of counts is not guaranteed."""
    rates: Rates
    entries: tuple[Entry, ...]
    """With a *late schema*, producers write with it before the registry knows it."""
    faults: tuple[Fault, ...]

    @property
    def undecoded_max(self) -> int:
        """Messages that may be read and not decoded yet, or parked, when a pause takes effect.

        Of parked ones there may be a poll more than their limit.
        """
        return self.messages_max * (self.batches_pending_max + 3) + PARKED_MESSAGES_MAX

    @property
    def undecoded_changes_max(self) -> int:
        """The same as changes: an event may have several."""
        return self.undecoded_max * max((len(entry.changes) for entry in self.entries), default=1)

    @property
    def has_short_memory(self) -> bool:
        """The budget of pending changes is small, at least for some processes: changes may be coalesced in place."""
        has_less_memory = any(fault.kind is FaultKind.LESS_MEMORY for fault in self.faults)
        return has_less_memory or self.max_pending_changes < ROOMY

    @property
    def without_takeovers(self) -> "SimulationPlan":
        """One member that keeps its partitions."""
        faults = tuple(fault for fault in self.faults if fault.kind not in TAKEOVERS)
        rates = replace(self.rates, pause=0.0, undeliverable=0.0)
        return replace(self, members=1, faults=faults, rates=rates)


def draw_plan(seed: int) -> SimulationPlan:
    random = new_random(seed, "plan")
    theme = random.choice((Theme.MIXED, Theme.MIXED, Theme.MIXED, Theme.HANDOVERS, Theme.TOKENS))
    for name, share, rare in _RARE_THEMES:
        if new_random(seed, name).random() < share:
            theme = rare
    partitions = random.randint(2, 4)
    members = random.choice((2, 2, 3, 3, 4))
    fixed = random.random() < 0.9
    plan = SimulationPlan(
        seed=seed,
        theme=theme,
        members=members,
        partitions=partitions,
        log_start=random.choice((0, 7)),
        flush_items=random.choice((CHUNK_ITEMS, 2 * CHUNK_ITEMS)),
        max_age_seconds=random.choice((1.5, 4.0)),
        hold_seconds=random.choice((6.0, 20.0)),
        http_seconds=random.choice((3.0, 9.0)),
        max_in_flight=random.choice((1, 2, 4)),
        max_requests_per_second=random.choice((None, None, 4.0)),
        max_pending_changes=random.choice((12, 25)) if random.random() < 0.25 else ROOMY,
        max_uncommitted_offsets=random.choice((10, 20)) if random.random() < 0.25 else ROOMY,
        messages_max=random.choice((3, 6, 12)),
        batches_pending_max=random.choice((2, 3)),
        unfinished_jobs_max=new_random(seed, "jobs").choice((None, None, None, 1, 3)),
        request_bytes_max=new_random(seed, "bytes").choice((None, None, 700, 1_500)),
        gateway_bytes_max=new_random(seed, "gateway").choice((None, None, 700, 1_200)),
        has_lists=seed % 2 == 0,
        listed_jobs_max=LISTED_JOBS_MAX,
        smart_refresh=False,
        sync_items_max=2,
        only_sender=False,
        share_locations_min=5,
        token_ripens_seconds=new_random(seed, "ripens").choice((0.0, 0.0, 0.5, 4.0)),
        fixed_partition=fixed,
        rates=_draw_rates(random),
        entries=_with_schemas(
            seed, _with_events(new_random(seed, "events"), _draw_entries(random, theme, partitions, fixed=fixed))
        ),
        faults=_with_redrives(new_random(seed, "redrives"), _draw_faults(random, theme, members, partitions)),
    )
    plan = _with_backlog(replace(plan, faults=_with_less_memory(plan)))
    return _with_theme(plan, random)


_RARE_THEMES: Final = (
    ("theme", REFUSALS_SHARE, Theme.REFUSALS),
    ("locations", LOCATIONS_SHARE, Theme.LOCATIONS),
    ("lost answers", LOST_ANSWERS_SHARE, Theme.LOST_ANSWERS),
    ("smart", SMART_REFRESH_SHARE, Theme.SMART_REFRESH),
)
"""The source of randomness that decides, the share of plans, and the theme. The last one that is drawn wins."""


def _with_theme(plan: SimulationPlan, random: Random) -> SimulationPlan:  # noqa: PLR0911 - one return per theme
    seed = plan.seed
    match plan.theme:
        case Theme.HANDOVERS:
            rates = replace(plan.rates, oms=0.4, late=0.7, pause=0.0, undeliverable=0.0)
            return replace(plan, hold_seconds=20.0, http_seconds=3.0, max_age_seconds=1.5, rates=rates)
        case Theme.TOKENS:
            return replace(plan, hold_seconds=6.0, rates=replace(plan.rates, pause=0.15))
        case Theme.REFUSALS:
            rates = replace(plan.rates, oms=0.3, late=0.7)
            return replace(plan, max_pending_changes=random.choice((6, 12, 25, ROOMY)), rates=rates)
        case Theme.LOST_ANSWERS:
            random = new_random(seed, "senders")
            return replace(
                plan,
                members=random.choice((1, 2)),
                hold_seconds=20.0,
                http_seconds=3.0,
                has_lists=True,
                only_sender=random.random() < 0.6,
                unfinished_jobs_max=random.choice((100, ROOMY)),
                rates=replace(plan.rates, oms=random.choice((0.2, 0.4)), late=random.choice((0.3, 0.7))),
            )
        case Theme.SMART_REFRESH:
            random = new_random(seed, "smart refresh")
            moves = [
                Fault(random.uniform(0.0, FAULTY_SECONDS), FaultKind.MOVE, random.randrange(plan.partitions))
                for _ in range(random.choice((0, 0, 12)))
            ]
            return replace(
                plan,
                faults=tuple(sorted((*plan.faults, *moves), key=lambda fault: fault.at)),
                hold_seconds=6.0,
                has_lists=True,
                listed_jobs_max=random.choice((FEW_JOBS, ROOMY, ROOMY)),
                smart_refresh=True,
                sync_items_max=random.choice((2, MAX_ITEMS)),
                only_sender=random.random() < 0.3,
                unfinished_jobs_max=random.choice((20, 100, 100, 100)),
                rates=replace(plan.rates, oms=random.choice((0.0, 0.3, 0.5)), late=0.8),
            )
        case Theme.LOCATIONS:
            return _with_refused_locations(plan)
        case _:
            return plan


def _with_refused_locations(plan: SimulationPlan) -> SimulationPlan:
    random = new_random(plan.seed, "refused locations")
    kinds = random.choices((FaultKind.LOCATION_REFUSED, FaultKind.ITEM_REFUSED), k=random.randint(1, 3))
    faults = [
        Fault(random.uniform(0.0, 0.6 * FAULTY_SECONDS), kind, random.randrange(len(LOCATIONS)), seconds)
        for kind in kinds
        for seconds in (random.choice((10.0, FAULTY_SECONDS, OPERATOR_SECONDS)),)
    ]
    every = random.choice((2.0, 6.0))
    healthy = [
        Entry(every * (1 + number), 0, EntryKind.CHANGE, 0, f"{HEALTHY_LOCATION[0]}{number % 2}", HEALTHY_LOCATION)
        for number in range(HEALTHY_CHANGES)
    ]
    healthy += [replace(healthy[0], at=FAULTY_SECONDS + 10.0 * number + 0.005) for number in range(HEALTHY_CHANGES)]
    bad_from = random.choice((random.uniform(0.0, 0.6 * FAULTY_SECONDS), FAULTY_SECONDS))
    entries = [
        replace(entry, kind=EntryKind.BAD, fields={})
        if entry.kind is EntryKind.CHANGE and 0.0 <= entry.at - bad_from <= BAD_SECONDS
        else entry
        for entry in plan.entries
    ]
    in_order = sorted((*entries, *healthy), key=lambda entry: entry.at)
    return replace(
        plan,
        share_locations_min=random.choice((3, 3, 5)),
        rates=replace(plan.rates, oms=random.choice((0.0, 0.05, 0.2))),
        entries=tuple(_numbered(entry, number) for number, entry in enumerate(in_order, start=1)),
        faults=tuple(sorted((*plan.faults, *faults), key=lambda fault: fault.at)),
    )


def _draw_rates(random: Random) -> Rates:
    return Rates(
        pause=random.choice((0.0, 0.0, 0.01, 0.03)),
        stall=random.choice((0.0, 0.0, 0.01)),
        commit_unanswered=random.choice((0.0, 0.03, 0.15)),
        slow=random.choice((0.0, 0.05, 0.2)),
        oms=random.choice((0.0, 0.1, 0.3, 0.5)),
        late=random.choice((0.2, 0.6)),
        undeliverable=random.choice((0.0, 0.0, 0.05)),
    )


def _draw_entries(random: Random, theme: Theme, partitions: int, *, fixed: bool) -> tuple[Entry, ...]:
    items = [
        (location, f"{location[0]}{number}")
        for location in LOCATIONS[: random.randint(1, 4)]
        for number in range(random.randint(2, 9))
    ]
    partition_of = {item: random.randrange(partitions) for item in items}
    has_long_attributes = random.random() < 0.4 or theme is Theme.REFUSALS
    long_attributes = set(random.sample(items, k=min(2, len(items)))) if has_long_attributes else set()
    bad_share = random.choice((0.12,) if theme is Theme.REFUSALS else (0.0, 0.0, 0.03, 0.1))
    other_share = random.choice((0.0, 0.05, 0.2))
    burst = random.choice((1, 4, 15))
    entries: list[Entry] = []
    count = random.randint(60, 200)
    time = 0.0
    for number in range(1, count):
        if number % burst == 0:
            time += random.expovariate(count / (0.9 * FAULTY_SECONDS * burst))
        item = random.choice(items)
        partition = partition_of[item] if fixed else random.randrange(partitions)
        # No two at the same time: their order in the log would be undefined.
        at = min(time, 0.9 * FAULTY_SECONDS) + number / 1e6
        if random.random() < other_share:
            kind = random.choice((EntryKind.REJECT, EntryKind.TOMBSTONE, EntryKind.GAP))
            entries.append(Entry(at, partition, kind, number))
        elif random.random() < bad_share:
            entries.append(Entry(at, partition, EntryKind.BAD, number, item[1], item[0], _bad_fields(random)))
        else:
            fields = _draw_fields(random, number, has_long_attributes=item in long_attributes)
            entries.append(Entry(at, partition, EntryKind.CHANGE, number, item[1], item[0], fields))
    return tuple(entries)


def _with_events(random: Random, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The same entries, some of them as barriers, and some as the first line of an event with several."""
    barrier_share = random.choice((0.0, 0.0, 0.1, 0.25))
    event_share = random.choice((0.0, 0.0, 0.15, 0.5))
    items: dict[int, set[tuple[str, str]]] = {}
    for entry in entries:
        if entry.item:
            items.setdefault(entry.partition, set()).add((entry.location, entry.item))
    drawn = []
    for entry in entries:
        first = replace(entry, number=NUMBERS_PER_OFFSET * entry.number)
        if entry.kind is EntryKind.CHANGE and random.random() < barrier_share:
            first = replace(first, kind=EntryKind.BARRIER)
        if entry.item and random.random() < event_share:
            choices = sorted(items[entry.partition])
            numbers = range(first.number + 1, first.number + random.randint(2, LINES_MAX))
            others = [_draw_line(random, first, number, random.choice(choices), barrier_share) for number in numbers]
            first = Entry(first.at, first.partition, EntryKind.EVENT, first.number, lines=(first, *others))
        drawn.append(first)
    return tuple(drawn)


def _draw_line(random: Random, first: Entry, number: int, item: tuple[str, str], barrier_share: float) -> Entry:
    line = replace(first, number=number, location=item[0], item=item[1])
    kind = random.choices(
        (EntryKind.CHANGE, EntryKind.BARRIER, EntryKind.BAD, EntryKind.REJECT), (1.0, barrier_share, 0.05, 0.1)
    )[0]
    match kind:
        case EntryKind.BAD:
            return replace(line, kind=kind, fields=_bad_fields(random))
        case EntryKind.REJECT:
            return replace(line, kind=kind, location="", item="", fields={})
        case _:
            return replace(line, kind=kind, fields=_draw_fields(random, number, has_long_attributes=False))


_WITH_ITEMS: Final = frozenset({EntryKind.CHANGE, EntryKind.BAD, EntryKind.BARRIER, EntryKind.EVENT})


def _with_schemas(seed: int, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Some plans have a late schema, others junk that looks like an id. Not both: junk may use up all the patience."""
    random = new_random(seed, "schemas")
    match random.choice(("known", "known", "late", "junk")):
        case "late":
            begin = random.uniform(0.0, 0.7 * FAULTY_SECONDS)
            known_at = begin + random.uniform(2.0, 10.0)
            return tuple(
                replace(entry, schema_known_at=known_at)
                if entry.at >= begin and entry.kind in _WITH_ITEMS and random.random() < 0.7
                else entry
                for entry in entries
            )
        case "junk":
            return tuple(
                replace(entry, schema_known_at=float("inf"))
                if entry.kind is EntryKind.REJECT and random.random() < 0.5
                else entry
                for entry in entries
            )
        case _:
            return entries


BAD_LOCATOR: Final = "refused"
BAD_ATTRIBUTE: Final = "REFUSED"


def _bad_fields(random: Random) -> dict[str, Any]:
    """The fields that make a change bad, and no others, so that it does not matter whether the change was sent."""
    return random.choice(({}, {"inventoryLocatorName": BAD_LOCATOR}, {"attributes": [BAD_ATTRIBUTE]}))


def _draw_fields(random: Random, number: int, *, has_long_attributes: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if random.random() < 0.3:
        fields["retailPrice"] = float(number)
    if random.random() < 0.2:
        fields["floor"] = number
    if random.random() < 0.15:
        fields["inventoryLocatorName"] = f"Aisle {number}"
    if has_long_attributes:
        first = random.randrange(150)
        fields["attributes"] = [f"A{at}" for at in range(first, first + random.randint(10, 40))]
    elif random.random() < 0.2:
        fields["attributes"] = [f"A{random.randrange(20)}"]
    return fields


def _draw_faults(random: Random, theme: Theme, members: int, partitions: int) -> tuple[Fault, ...]:
    weights = {
        FaultKind.PAUSE: random.choice((0, 3, 8)),
        FaultKind.KILL: random.choice((0, 1, 4)),
        FaultKind.RESTART: random.choice((0, 1, 3)),
        FaultKind.DISCONNECT: random.choice((0, 2)),
        FaultKind.MOVE: random.choice((0, 1, 4)),
        FaultKind.OMS_DOWN: random.choice((0, 1)),
        FaultKind.OMS_REFUSES: random.choice((0, 0, 1)),
        FaultKind.TOKENS_REVOKED: 1,
        FaultKind.FOREIGN_METADATA: random.choice((0, 0, 1)),
    }
    count = random.randint(0, 25)
    match theme:
        case Theme.HANDOVERS:
            weights = {FaultKind.MOVE: 6, FaultKind.RESTART: 2, FaultKind.FOREIGN_METADATA: random.choice((0, 2))}
            count = 40
        case Theme.TOKENS:
            weights |= {FaultKind.TOKENS_REVOKED: 30, FaultKind.OMS_REFUSES: 0}
            count = 60
        case _:
            pass
    kinds = random.choices(list(weights), weights=list(weights.values()), k=count)
    faults: list[Fault] = []
    at = 0.0
    for kind in kinds:
        # Often close together, so that the second fault hits while the first is still being handled.
        at = at + random.uniform(0.0, 6.0) if random.random() < 0.4 else random.uniform(0.0, FAULTY_SECONDS)
        faults.append(_draw_fault(random, kind, min(at, FAULTY_SECONDS), members, partitions))
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _with_redrives(random: Random, faults: Sequence[Fault]) -> tuple[Fault, ...]:
    times = [random.uniform(0.0, FAULTY_SECONDS) for _ in range(random.choice((0, 0, 1, 4)))]
    redrives = [Fault(at, FaultKind.REDRIVE, 0) for at in times]
    return tuple(sorted((*faults, *redrives), key=lambda fault: fault.at))


def _with_less_memory(plan: SimulationPlan) -> tuple[Fault, ...]:
    random = new_random(plan.seed, "memory")
    if random.random() >= LESS_MEMORY_SHARE or plan.theme is Theme.TOKENS:
        return plan.faults
    at, seconds = random.uniform(10.0, 0.8 * FAULTY_SECONDS), random.uniform(5.0, 40.0)
    fault = Fault(at, FaultKind.LESS_MEMORY, random.randrange(plan.members), seconds)
    return tuple(sorted((*plan.faults, fault), key=lambda fault: fault.at))


def _numbered(entry: Entry, number: int) -> Entry:
    """The entry as the one with this number, with the changes that belong to it."""
    first = NUMBERS_PER_OFFSET * number
    lines = tuple(replace(line, number=first + index) for index, line in enumerate(entry.lines))
    return replace(entry, number=first, lines=lines)


def _with_backlog(plan: SimulationPlan) -> SimulationPlan:
    random = new_random(plan.seed, "backlog")
    if random.random() >= BACKLOG_SHARE or plan.theme is not Theme.MIXED:
        return plan
    fault = Fault(random.uniform(0.0, 20.0), FaultKind.BACKLOG, 0, random.uniform(10.0, 50.0))
    some = random.sample(range(plan.partitions), k=2)
    kinds = {EntryKind.CHANGE, EntryKind.EVENT}
    changes = [entry for entry in plan.entries if entry.kind in kinds and entry.partition in some]
    if not changes:
        return plan
    published = [
        replace(random.choice(changes), at=fault.at + fault.seconds * number / BACKLOG_CHANGES, schema_known_at=0.0)
        for number in range(BACKLOG_CHANGES)
    ]
    in_order = sorted((*plan.entries, *published), key=lambda entry: entry.at)
    return replace(
        plan,
        members=random.choice((1, 2)),
        max_age_seconds=0.6,
        max_in_flight=4,
        max_requests_per_second=None,
        max_pending_changes=min(plan.max_pending_changes, random.choice((40, 80))),
        messages_max=2,
        rates=replace(plan.rates, oms=0.0),
        entries=tuple(_numbered(entry, number) for number, entry in enumerate(in_order, start=1)),
        faults=tuple(sorted((*plan.faults, fault), key=lambda fault: fault.at)),
    )


def _draw_fault(random: Random, kind: FaultKind, at: float, members: int, partitions: int) -> Fault:
    of_partition = kind in {FaultKind.MOVE, FaultKind.FOREIGN_METADATA}
    target = random.randrange(partitions if of_partition else members)
    seconds = {
        FaultKind.PAUSE: draw_pause_seconds(random),
        FaultKind.DISCONNECT: random.uniform(0.5, 2 * SESSION_SECONDS),
    }.get(kind, random.uniform(0.1, 8.0))
    return Fault(at, kind, target, seconds)


def draw_pause_seconds(random: Random) -> float:
    """Short, about as long as a session, or long enough for a new owner to finish recovery and send."""
    return random.choice((0.5, 3.0, SESSION_SECONDS, 2.5 * SESSION_SECONDS, 4 * SESSION_SECONDS)) * random.uniform(
        0.5, 1.5
    )


def item_key_of(item: str) -> dict[str, Any]:
    """The identifiers of an item: a SKU, or part number and bin for every third one."""
    number = int(item[1:])
    return {"partNumber": item, "binID": number + 1} if number % 3 == 2 else {"sku": item}
