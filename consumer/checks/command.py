"""What the command ``check`` does: run all checks, and print a line for each as soon as it is known."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.text import Text

from consumer.checks.events import check_events
from consumer.checks.findings import Finding, Status, caught, exit_code, failed, ok
from consumer.checks.kafka import KafkaChecked, check_kafka
from consumer.checks.machine import check_disk, judge_memory
from consumer.checks.oms import check_oms
from consumer.checks.patience import SECONDS_DEFAULT, impatient
from consumer.container import ContainerMemory
from consumer.errors import StopError
from consumer.settings import Credentials, Settings

Result = TypeVar("Result")
Load = Callable[[], tuple[Settings, Credentials]]

_STYLES: Final = {Status.OK: "green", Status.WARNING: "yellow", Status.ERROR: "bold red", Status.SKIPPED: "dim"}
_STATUS_WIDTH: Final = max(map(len, Status))
_CHECK_WIDTH: Final = 12


def print_checks(load: Load, *, as_json: bool, seconds_max: float = SECONDS_DEFAULT) -> int:
    """Print a line per finding, or one JSON object at the end. Returns the exit code: that of the first error.

    ``load`` reads the settings; what is wrong with them is a finding as well. ``seconds_max`` is how long each of
    brokers, registry and OMS may take to answer.
    """
    began = time.monotonic()
    console = Console(highlight=False, soft_wrap=True)
    findings: list[Finding] = []
    with console.status("checking") if console.is_terminal and not as_json else nullcontext():
        for finding in run_checks(load, seconds_max):
            findings.append(finding)
            if not as_json:
                console.print(as_line(finding))
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps(as_object(findings, seconds), ensure_ascii=False))  # noqa: T201 - the result of the command
    else:
        console.print(f"{summary(findings)} in {seconds:.1f} s", style="bold")
    return exit_code(findings)


def run_checks(load: Load, seconds_max: float) -> Iterator[Finding]:
    """Run all checks. Kafka and the OMS are asked at the same time."""
    try:
        settings, credentials = load()
    except StopError as error:
        yield failed("settings", str(error), None, type(error))
        return
    settings = impatient(settings, seconds_max)
    oms = _in_background(lambda: caught("token", lambda: check_oms(settings, credentials, time.time)))
    kafka = _in_background(lambda: _kafka(settings))
    yield ok("settings", "valid")
    yield from caught("memory", lambda: [_memory(settings)])
    yield check_disk(Path.cwd())
    checked = kafka.result()
    yield from checked.findings
    yield from check_events(settings, checked.records)
    yield from oms.result()


def as_line(finding: Finding) -> Text:
    """The finding as one line, coloured where the terminal has colours."""
    status = Text(f"{finding.status:<{_STATUS_WIDTH}}", _STYLES[finding.status])
    text = f"  {finding.check:<{_CHECK_WIDTH}}  {finding.text}"
    return status + Text(text if finding.advice is None else f"{text}; {finding.advice}")


def as_object(findings: Sequence[Finding], seconds: float) -> dict[str, Any]:
    """The report for programs; docs/check.md describes it."""
    return {
        "exit_code": exit_code(findings),
        "seconds": round(seconds, 1),
        "checks": [
            {
                "check": finding.check,
                "status": finding.status.value,
                "text": finding.text,
                **({} if finding.advice is None else {"advice": finding.advice}),
            }
            for finding in findings
        ],
    }


def summary(findings: Sequence[Finding]) -> str:
    """How many findings there are of each status, such as ``15 ok, 1 warning, 1 error``."""
    counts = {status: sum(finding.status is status for finding in findings) for status in Status}
    plurals = {Status.WARNING: "warnings", Status.ERROR: "errors"}
    return ", ".join(
        f"{count} {plurals.get(status, status) if count > 1 else status}" for status, count in counts.items() if count
    )


def _kafka(settings: Settings) -> KafkaChecked:
    checked = KafkaChecked()

    def run() -> list[Finding]:
        nonlocal checked
        checked = check_kafka(settings.kafka, settings.dead_letters.topic)
        return checked.findings

    checked.findings = caught("brokers", run)
    return checked


def _memory(settings: Settings) -> Finding:
    container = ContainerMemory()
    return judge_memory(settings.memory.budget, container.limit_bytes, container.used_bytes())


def _in_background(run: Callable[[], Result]) -> "Future[Result]":
    """Call it on a thread that does not keep the process from ending: a silent OMS must not hold up Ctrl-C."""
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(run())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is taken
            future.set_exception(error)

    Thread(target=work, name="check", daemon=True).start()
    return future
