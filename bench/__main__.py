"""Measure the service, one case after another; ``make bench``.

Each run of the service stands between two bare loops on the same topic. Every case checks that the sink got everything;
the exit code is 1 if one did not. Results of cases that are not measured this time stay in the JSON file if machine
and versions are the same.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from bench.cases import CASES, Case, chosen, miniature
from bench.machine import commit, machine, versions
from bench.measure import World, measure
from bench.report import count_table, rich_tables
from bench.results import CaseResult, Results, read_results, to_json
from consumer.sandbox.embedded_broker import EmbeddedBroker
from tests.support.keeper import PartMissingError
from tests.support.services import KAFKA_VERSION, use_kafka
from tests.support.topics import REQUEST_SECONDS_MAX, make_topic

QUICK_THREADS: Final = 4
"""Cases in miniature at a time: most of their time they wait for the embedded broker, which forms a group in 3 s."""
FILE_COLUMNS: Final = 160
"""Width of the table where it does not go to a terminal."""
console = Console(stderr=True, width=None if sys.stderr.isatty() else FILE_COLUMNS)


@dataclass(frozen=True)
class Broker:
    servers: str
    version: str
    admin: AdminClient | EmbeddedBroker

    @contextmanager
    def topic(self, name: str, partitions: int) -> Iterator[None]:
        """A topic that is deleted afterwards; the embedded broker has its own number of partitions, and keeps it."""
        if isinstance(self.admin, EmbeddedBroker):
            self.admin.create_topic(name)
            yield
            return
        make_topic(self.admin, name, partitions)
        try:
            yield
        finally:
            self.admin.delete_topics([name])[name].result(REQUEST_SECONDS_MAX)


def main() -> int:
    logging.getLogger("inventory_refresh").setLevel(logging.ERROR)  # what the publisher's Kafka client retries
    arguments = _arguments()
    try:
        cases = list(CASES) if arguments.all else chosen(arguments.cases)
    except ValueError as error:
        console.print(str(error))
        return 2
    if arguments.quick:
        cases = [miniature(case) for case in (cases if arguments.cases else CASES)]
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(_embedded() if arguments.quick else _real())
        except PartMissingError as missing:
            console.print(f"no broker: {missing}")
            return 2
        measured = _measured(cases, broker, arguments.rounds, QUICK_THREADS if arguments.quick else 1)
    results = Results(machine(), versions(broker.version), {case.name: case for case in measured})
    _write(arguments.results, results)
    printed = Console() if sys.stdout.isatty() else Console(width=FILE_COLUMNS)
    for table in [count_table(results)] if arguments.quick else rich_tables(results):
        printed.print(table)
    return 0 if all(case.is_complete for case in measured) else 1


def _arguments() -> argparse.Namespace:
    names = ", ".join(f"{case.name}{' (by hand)' if case.by_hand else ''}" for case in CASES)
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all that are not by hand, of {names}")
    parser.add_argument("--rounds", type=int, default=3, help="runs of the service in each case (%(default)s)")
    parser.add_argument("--all", action="store_true", help="also the cases that are by hand")
    parser.add_argument("--quick", action="store_true", help="all cases in miniature, on an embedded broker")
    parser.add_argument("--results", type=Path, help="the JSON file to write or to update")
    return parser.parse_args()


@contextmanager
def _real() -> Iterator[Broker]:
    with ExitStack() as stack:
        servers = use_kafka(stack).bootstrap_servers
        version = "of KAFKA_BOOTSTRAP_SERVERS" if "KAFKA_BOOTSTRAP_SERVERS" in os.environ else KAFKA_VERSION
        yield Broker(servers, version, AdminClient({"bootstrap.servers": servers, "log_level": 3}))


@contextmanager
def _embedded() -> Iterator[Broker]:
    with EmbeddedBroker() as broker:
        yield Broker(broker.bootstrap_servers, "embedded broker", broker)


def _measured(cases: Sequence[Case], broker: Broker, rounds: int, threads: int) -> list[CaseResult]:
    """All cases, this many at a time. Figures can be compared only if cases ran one at a time."""
    date, version = datetime.now(UTC).date().isoformat(), commit()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor(threads) as pool:

        def one(case: Case) -> CaseResult:
            task = progress.add_task(case.name, total=1.0)

            def notify(what: str, share: float) -> None:
                progress.update(task, description=f"{case.name}: {what}", completed=min(share, 1.0))

            result = measure(case, World(broker.servers, broker.topic, notify, date, version), rounds)
            progress.remove_task(task)
            progress.console.print(_line(result, shows_rates=threads == 1))
            return result

        return list(pool.map(one, cases))


def _line(result: CaseResult, *, shows_rates: bool) -> str:
    if result.skipped:
        return f"{result.name}: skipped: {result.skipped}"
    if not shows_rates:
        return f"{result.name}: {'complete' if result.is_complete else '; '.join(result.problems)}"
    rates = ", ".join(
        f"{one.changes_per_second:,.0f}/s" + ("" if one.share_of_bare is None else f" ({one.share_of_bare:.2f})")
        for one in result.rounds
    )
    return f"{result.name}: {rates}{'' if result.is_complete else '; ' + '; '.join(result.problems)}"


def _write(path: Path | None, new: Results) -> None:
    if path is None:
        return
    old = read_results(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(old.merged(new) if old else new), encoding="utf-8")
    console.print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
