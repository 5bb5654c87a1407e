"""One planned run over a range of records: reading, decoding as the service does, the engine, and bodies to files."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from consumer.container import ContainerMemory
from consumer.core.limits import UNCOMMITTED_SHARE, EngineLimits
from consumer.dead_letters.log_reader import LogReader
from consumer.errors import SettingsError
from consumer.oms.apis import APIS
from consumer.plan.decoding import decoded_parts, decoder_of
from consumer.plan.planned import PlannedRun, SimulatedOms
from consumer.plan.records import Range, as_backlog, by_time, raw_batch
from consumer.plan.totals import Totals
from consumer.settings import Settings
from consumer.settings.engine_limits import engine_limits
from consumer.settings.memory import MIB, budget_bytes, memory_shares

TICK_SHARE: Final = 1 / 100
"""Of ``max_age``: records that close together count as read by one poll."""
TICK_SECONDS_MIN: Final = 0.25
COALESCING_BYTES_MAX: Final = 4 * MIB


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a range of records is played. ``pending_bytes_max`` bounds what is pending, whatever the settings say."""

    backlog: bool = False
    answer_seconds: float = 1.0
    chunk_seconds: float | None = None
    pending_bytes_max: int = 8 * MIB


@dataclass(frozen=True, slots=True)
class Outcome:
    """``begin`` and ``end`` are the first and last time of the records, seconds since 1970; None as a backlog.

    ``is_memory_less``: less may be pending than with the service's memory budget.
    """

    totals: Totals
    begin: float | None
    end: float | None
    is_memory_less: bool


def simulate(
    settings: Settings,
    log: LogReader,
    found: Range,
    simulation: Simulation,
    *,
    out: Path | None = None,
    progress: Callable[[int], None] = lambda _messages: None,
) -> Outcome:
    """Play the records. ``progress`` is called with the number of messages so far.

    Raises SettingsError if a body cannot be written, BrokerError if Kafka cannot be read, DeadLettersError if a schema
    stays unavailable.
    """
    limits, is_memory_less = _limits(settings, simulation.pending_bytes_max)
    run = PlannedRun(limits, settings.window.item_key, _oms(settings, simulation), on_body=_writer(out))
    ids = {partition: number for number, partition in enumerate(found.starts, start=1)}
    last_offsets = {ids[partition]: end for partition, end in found.ends.items()}
    tick_seconds = max(TICK_SHARE * limits.max_age_seconds, TICK_SECONDS_MIN)
    slices = as_backlog(log, found) if simulation.backlog else by_time(log, found, tick_seconds)
    begin: float | None = None
    end = 0.0
    with closing(decoder_of(settings)) as decoder:
        for piece in slices:
            if begin is None:
                begin = piece.first_seconds
                run.assign(((ids[partition], start) for partition, start in found.starts.items()), begin)
            end = piece.last_seconds
            for decoded, messages in decoded_parts(decoder, raw_batch(piece.messages, ids)):
                ends = {
                    owner
                    for owner, offset in decoded.next_offsets.items()
                    if not simulation.backlog or offset >= last_offsets[owner]
                }
                run.add(decoded, end, arrived=piece.first_seconds, messages=messages, ends=ends)
            progress(run.totals.messages)
    run.finish()
    has_times = begin is not None and not simulation.backlog
    return Outcome(run.totals, begin if has_times else None, end if has_times else None, is_memory_less)


def _limits(settings: Settings, pending_bytes_max: int) -> tuple[EngineLimits, bool]:
    """The engine's limits, and whether less may be pending than in the service."""
    budget = settings.memory.budget
    # The service's own budget, also in a smaller container than the service's.
    shares = memory_shares(budget_bytes(budget, ContainerMemory().limit_bytes if budget == "auto" else None))
    pending_bytes = min(shares.pending_bytes, pending_bytes_max)
    limits = engine_limits(settings, shares)
    limits = replace(
        limits,
        max_pending_bytes=pending_bytes,
        max_uncommitted_bytes=int(UNCOMMITTED_SHARE * pending_bytes),
        coalescing_bytes_max=min(shares.coalescing_bytes, COALESCING_BYTES_MAX),
    )
    return limits, pending_bytes < shares.pending_bytes


def _oms(settings: Settings, simulation: Simulation) -> SimulatedOms:
    adapts = settings.window.flush_items == "auto"
    if adapts and simulation.chunk_seconds is None:
        raise SettingsError("plan: window.flush_items is auto, which follows the OMS's queue: give --chunk-seconds")
    return SimulatedOms(
        field_names=APIS[settings.oms.api].field_names,
        answer_seconds=simulation.answer_seconds,
        chunk_seconds=simulation.chunk_seconds,
        unfinished_jobs_max=settings.oms.unfinished_jobs_max if settings.oms.track_jobs else None,
        adapts_flush_items=adapts,
    )


def _writer(out: Path | None) -> Callable[[bytes], None]:
    """Writes each body to a file of its own, numbered in the order in which requests leave."""
    if out is None:
        return lambda _body: None
    folder, written = out, 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SettingsError(f"--out: {str(folder)!r} is not empty; name a new folder")
    except OSError as error:
        raise SettingsError(f"--out: {str(folder)!r} cannot be written: {error.strerror}") from error

    def write(body: bytes) -> None:
        nonlocal written
        written += 1
        file = folder / f"{written:06}.json"
        try:
            file.write_bytes(body)
        except OSError as error:
            raise SettingsError(f"--out: {str(file)!r} cannot be written: {error.strerror}") from error

    return write
