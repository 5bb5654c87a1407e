"""The command ``status``: what the status page shows, in a terminal, for one or several processes."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from consumer import terminal
from consumer.errors import SettingsError
from consumer.observe.members import MEMBERS_MAX, base_url, urls_of
from consumer.observe.status import api
from consumer.observe.status.words import ago, count, counted, duration
from consumer.settings import CONFIG_VARIABLE, HttpSettings, load
from consumer.text import escape_unprintable

REFRESH_SECONDS: Final = 2.0
ANSWER_SECONDS_MAX: Final = 5.0
"""For each call; the first one waits up to a second for the process's loop."""
THREADS: Final = 8
"""That many processes are asked at a time."""
PROBLEMS_MAX: Final = 10
_STYLES: Final[dict[api.Level, str]] = {"good": "green", "waiting": "yellow", "bad": "bold red"}


@dataclass(frozen=True, slots=True)
class Member:
    """What a process answered; ``problem`` says why there is no answer, and is None if there is one."""

    url: str
    problem: str | None = None
    overview: api.Overview | None = None
    locations: Sequence[api.LocationReport] = ()
    problems: Sequence[api.ProblemReport] = ()


def known_urls(config: Path | None, environ: Mapping[str, str]) -> Sequence[str]:
    """What to show if no address is given: all members by ``http.members``, or else the process on this machine.

    Settings are not needed: without any, a process on this machine with the default port is shown. Raises
    SettingsError if a settings file is named and cannot be used.
    """
    try:
        http = load(config, environ).http
    except SettingsError:
        if config or environ.get(CONFIG_VARIABLE):
            raise
        http = HttpSettings()
    return http.members or [own_url(http)]


def own_url(http: HttpSettings) -> str:
    """The status page of the process that these settings are for, as seen from its machine."""
    host = http.host or "127.0.0.1"
    return f"{f'[{host}]' if ':' in host else host}:{http.port}"


def show_status(urls: Sequence[str], *, once: bool, locations_max: int) -> bool:
    """Show it, live until Ctrl-C unless ``once`` or without a terminal. Returns whether all processes answered.

    Raises SettingsError for a wrong URL.
    """
    bases = members_of(urls)
    console = terminal.console(highlight=False)
    # The addresses are those of pods and port-forwards, so no proxy is used.
    with (
        httpx.Client(timeout=ANSWER_SECONDS_MAX, trust_env=False) as client,
        ThreadPoolExecutor(THREADS) as threads,
    ):

        def ask_all(bases: Sequence[str]) -> list[Member]:
            return list(threads.map(lambda base: _ask(client, base, locations_max), bases))

        members = ask_all(bases)
        if once or not console.is_terminal:
            console.print(_shown(members, locations_max))
            return all(member.problem is None for member in members)
        try:
            with Live(_shown(members, locations_max), console=console, screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(REFRESH_SECONDS)
                    live.update(_shown(ask_all(members_of(urls)), locations_max), refresh=True)
        except KeyboardInterrupt:
            return True


def members_of(urls: Sequence[str], command: str = "status") -> list[str]:
    """The addresses to ask: a name with several addresses, such as that of the chart's Service, has several processes.

    ``host:port`` alone is an ``http://`` address. Raises SettingsError if one is none, or if there are too many.
    """
    members = [member for url in urls for member in _addresses(base_url(command, url))]
    if len(members) > MEMBERS_MAX:
        raise SettingsError(f"{command}: {len(members)} addresses are more than the {MEMBERS_MAX} that can be shown")
    return members


def _addresses(base: str) -> Sequence[str]:
    parts = urlsplit(base)
    host = parts.hostname or ""
    if parts.scheme == "https":  # a certificate is for the name
        return [base]
    try:
        found = urls_of(host, parts.port or 80)
    except OSError:
        return [base]  # the call that follows says what is wrong
    return [base] if len(found) < 2 else [f"{url}{parts.path}" for url in found]


def _ask(client: httpx.Client, base: str, locations_max: int) -> Member:
    def ask(path: str) -> bytes:
        return client.get(f"{base}{path}").raise_for_status().content

    try:
        overview = api.Overview.model_validate_json(ask("/api/overview"))
        problems = api.Problems.model_validate_json(ask("/api/problems")).problems
        locations: Sequence[api.LocationReport] = ()
        if locations_max:
            found = ask(f"/api/locations?sort=oldest&limit={locations_max}")
            locations = api.Locations.model_validate_json(found).locations
    except httpx.HTTPStatusError as error:
        return Member(
            base, problem=f"answers with HTTP {error.response.status_code}: not a status page of this version"
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Member(base, problem=f"does not answer: {str(error) or type(error).__name__}")
    except ValidationError:
        return Member(base, problem="answers, but not as this version does")
    return Member(base, overview=overview, locations=locations, problems=problems)


def _shown(members: Sequence[Member], locations_max: int) -> RenderableType:
    if all(member.overview is None for member in members):
        return _states(members)
    parts: list[RenderableType] = [_states(members), Text(), _waits(members, several=len(members) > 1)]
    if locations_max:
        parts += [Text(), _locations(members, locations_max)]
    parts += [Text(), _problems(members)]
    return Group(*parts)


def _text(text: str, style: str = "") -> Text:
    """Text from outside: no markup, nothing that steers the terminal."""
    return Text(escape_unprintable(text), style=style)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, expand=True)
    for column in columns:
        table.add_column(column, header_style="dim", overflow="fold", justify="right" if column in _NUMBERS else "left")
    return table


_NUMBERS: Final = frozenset({"Waiting", "To read", "Read/s", "Accepted/s", "Items"})


def _states(members: Sequence[Member]) -> Table:
    table = _table("Inventory refresh", "Process", "State", "Waiting", "To read", "Read/s", "Accepted/s")
    for member in members:
        name, overview = _text(member.url), member.overview
        if overview is None:
            table.add_row(name, _text(member.problem or "", "bold red"), *["-"] * 4)
            continue
        rates = (overview.messages_per_second, overview.changes_per_second)
        table.add_row(
            name,
            _text(overview.health, _STYLES[overview.level]),
            count(overview.pending_changes),
            *("-" if number is None else count(number) for number in (overview.lag, *rates)),
        )
    return table


def _waits(members: Sequence[Member], *, several: bool) -> Table:
    table = _table("What waits and why", "What", "Why", *(["Process"] if several else []))
    found = [(member, wait) for member in members if member.overview for wait in member.overview.waits]
    for member, wait in found:
        row = [_text(wait.what, _STYLES[wait.level]), _text(wait.why), _text(member.url)]
        table.add_row(*row[: len(table.columns)])
    if not found:
        table.add_row(Text("Nothing waits.", "dim"))
    return table


def _locations(members: Sequence[Member], locations_max: int) -> Table:
    table = _table("Locations", "Location", "Items", "Oldest change", "Next request", "Last request", "Last job")
    found = [(location, member.overview) for member in members if member.overview for location in member.locations]
    found.sort(key=lambda pair: pair[0].oldest_seconds if pair[0].oldest_seconds is not None else -1.0, reverse=True)
    for location, overview in found[:locations_max]:
        last, accepted = location.last_request, location.last_accepted
        table.add_row(
            _text(location.name, "bold"),
            f"{location.pending_items:,}",
            "none" if location.oldest_seconds is None else duration(location.oldest_seconds),
            _text(location.next_send),
            _request(last, overview) if last else Text("none yet", "dim"),
            _job(accepted) if accepted else Text("none yet", "dim"),
        )
    if not found:
        table.add_row(Text("No location has had changes yet.", "dim"))
    return table


def _request(request: api.RequestReport, overview: api.Overview) -> Text:
    outcome = request.outcome.replace("_", " ")
    when = ago((overview.now - request.answered_at).total_seconds())
    style = "green" if request.outcome in {"accepted", "applied"} else "bold red"
    return Text.assemble(_text(outcome, style), f", {counted(request.items, 'item')}, {when}")


def _job(request: api.RequestReport) -> Text:
    if request.job_id is None:
        return _text("applied at once")
    if request.job_outcome is None:
        return _text(f"{request.job_id}: not ended yet")
    applied = request.job_outcome == "success"
    outcome = "applied" if applied else request.job_outcome.replace("_", " ")
    return _text(f"{request.job_id}: {outcome}", "green" if applied else "bold red")


def _problems(members: Sequence[Member]) -> Table:
    table = _table("Problems since the start", "Problem", "Latest", "Details")
    found = [(problem, member.overview) for member in members if member.overview for problem in member.problems]
    found.sort(key=lambda pair: pair[0].latest_at, reverse=True)
    for problem, overview in found[:PROBLEMS_MAX]:
        when = ago((overview.now - problem.latest_at).total_seconds())
        table.add_row(_text(problem.text, "yellow"), when, _text(problem.detail))
    if not found:
        table.add_row(Text("None.", "dim"))
    return table
