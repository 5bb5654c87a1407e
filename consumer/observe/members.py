"""The status pages of all members of the group, found by name (``http.members``).

The chart's headless Service has the addresses of all its pods, so one name is enough there. Nothing is asked of the
members here. Name servers may take long, so names are looked up on a thread of their own and never on the loop's.
"""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Final
from urllib.parse import urlsplit

from consumer.errors import SettingsError
from consumer.settings.values import split_host_port

MEMBERS_MAX: Final = 100
"""More are not shown, asked or linked."""
LOOKUP_SECONDS_MAX: Final = 2.0
"""For all names together. A lookup that takes longer goes on, for the next one who asks."""
KEPT_SECONDS: Final = 5.0
"""Members come and go with rollouts, and the page asks every two seconds."""


@dataclass(frozen=True, slots=True)
class Members:
    """The members that were found.

    ``urls`` are the addresses of their status pages, without repeats and without a path, such as
    ``http://10.1.2.3:8080``: sorted by address within each name. ``problems`` says in words which of the names could
    not be resolved, and which members were left out.
    """

    urls: Sequence[str] = ()
    problems: Sequence[str] = ()


class MemberFinder:
    """Looks up the members behind ``names``, each ``host:port``; for any thread but the loop's.

    There is at most one lookup at a time, and a result is kept for ``KEPT_SECONDS``.
    """

    def __init__(self, names: Sequence[str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._names = tuple(names)
        self._monotonic = monotonic
        self._lock = Lock()
        self._lookup: _Lookup | None = None
        """The latest one; it may still be under way."""

    def find(self) -> Members:
        """The members; waits ``LOOKUP_SECONDS_MAX`` at most."""
        if not self._names:
            return Members()
        now = self._monotonic()
        with self._lock:
            lookup = self._lookup
            if lookup is None or (lookup.done.is_set() and now - lookup.began >= KEPT_SECONDS):
                lookup = self._lookup = _Lookup(self._names, now)
        lookup.done.wait(max(lookup.began + LOOKUP_SECONDS_MAX - now, 0.0))
        return lookup.members()


class _Lookup:
    """Looks the names up, one after the other, in a thread that ends with the process."""

    def __init__(self, names: Sequence[str], began: float) -> None:
        self.began = began
        self.done = Event()
        self._names = names
        self._found: dict[str, Sequence[str] | OSError] = {}
        """By name; only the thread writes."""
        Thread(target=self._look_up, name="members", daemon=True).start()

    def _look_up(self) -> None:
        for name in self._names:
            try:
                self._found[name] = urls_of(*split_host_port(name))
            except OSError as error:
                self._found[name] = error
        self.done.set()

    def members(self) -> Members:
        urls: dict[str, None] = {}
        problems = []
        for name in self._names:
            found = self._found.get(name)
            if found is None:
                problems.append(f"{name}: the name server has not answered within {LOOKUP_SECONDS_MAX:g} s")
            elif isinstance(found, OSError):
                problems.append(f"{name}: cannot be resolved: {found.strerror or found}")
            else:
                urls.update(dict.fromkeys(found))
        if len(urls) > MEMBERS_MAX:
            problems.append(f"{len(urls)} members were found; only {MEMBERS_MAX} are used")
        return Members(tuple(urls)[:MEMBERS_MAX], tuple(problems))


def find_members(names: Sequence[str]) -> Members:
    """The members behind ``names``, once: for a command."""
    return MemberFinder(names).find()


def urls_of(host: str, port: int) -> Sequence[str]:
    """The status pages behind a host's name, one for each of its addresses, sorted.

    Blocks for as long as the name server takes. Raises OSError if it knows no address.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # Of a member with IPv4 and IPv6, one address is enough: the kind that this machine prefers.
    addresses = sorted({str(address[0]) for family, _, _, _, address in found if family == found[0][0]})
    return [f"http://{f'[{address}]' if ':' in address else address}:{port}" for address in addresses]


def base_url(option: str, url: str) -> str:
    """The address of a status page that an option has: without a trailing slash; ``host:port`` is an http:// one.

    Raises SettingsError.
    """
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{option}: {url!r} is not the address of a status page, such as http://127.0.0.1:8080")
    return full.rstrip("/")


def is_own(url: str, port: int) -> bool:
    """Whether this is the status page of this process, which listens on ``port``."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.port != port:
        return False
    try:
        # Only an address of this machine can be bound; port 0 takes any free one, and nothing is received.
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True
