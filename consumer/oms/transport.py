"""The connections to the OMS: one pool for each way out, with certificates that are read again when they change."""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx
import structlog

from consumer.errors import SettingsError
from consumer.network import environment_proxy
from consumer.oms.certificates import CertificateFiles, certificate_files
from consumer.oms.http import CONNECT_SECONDS_MAX, open_transport
from consumer.settings import OmsSettings

CHECK_SECONDS: Final = 5.0
"""How often the certificate files are looked at. Kubernetes itself takes up to a minute to renew mounted files."""
DIRECT: Final = "direct"
"""As ``oms.proxy``: no proxy, whatever the environment says."""

_log = structlog.get_logger("inventory_refresh.oms")


class RenewingTransport(httpx.BaseTransport):
    """Connections that are opened with the present content of certificate files.

    After a change new calls get new connections; calls in flight end on the old ones. While the new files cannot be
    used (a certificate may be replaced a moment before its key), the last good ones stay in use.
    """

    def __init__(
        self,
        open_pool: Callable[[], httpx.BaseTransport],
        version: Callable[[], object],
        *,
        call_seconds_max: float,
        monotonic: Callable[[], float],
    ) -> None:
        """``open_pool`` raises SettingsError; ``version`` differs once the files have changed.

        No call takes longer than ``call_seconds_max``.
        """
        self._open = open_pool
        self._version_now = version
        self._call_seconds_max = call_seconds_max
        self._monotonic = monotonic
        self._checking = threading.Lock()
        self._version = self._failed_version = version()
        self._pool = open_pool()
        self._retired: list[tuple[httpx.BaseTransport, float]] = []
        """Earlier pools, with the time at which no call can be using them any more."""
        self._check_at = monotonic() + CHECK_SECONDS

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._monotonic() >= self._check_at and self._checking.acquire(blocking=False):
            try:
                self._check(self._monotonic())
            finally:
                self._checking.release()
        return self._pool.handle_request(request)

    def close(self) -> None:
        for pool in (self._pool, *(pool for pool, _ in self._retired)):
            pool.close()

    def _check(self, now: float) -> None:
        self._check_at = now + CHECK_SECONDS
        for pool, _ in (entry for entry in self._retired if entry[1] <= now):
            pool.close()
        self._retired = [entry for entry in self._retired if entry[1] > now]
        version = self._version_now()
        if version == self._version:
            return
        try:
            renewed = self._open()
        except SettingsError as error:
            if version != self._failed_version:
                self._failed_version = version
                _log.warning(
                    "certificates_not_reloaded",
                    detail=str(error),
                    next_step="correct the file; the last ones stay in use",
                )
            return
        self._retired.append((self._pool, now + self._call_seconds_max))
        self._pool, self._version = renewed, version
        _log.info("certificates_reloaded")


def proxy_of(settings: OmsSettings, url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy for calls of this URL; None for a direct way.

    Raises SettingsError if there is one that cannot be used.
    """
    if settings.proxy is None:
        proxy = environment_proxy(url, environ)
    else:
        given = settings.proxy.get_secret_value()
        proxy = None if given == DIRECT else given
    if proxy and ":" in (urlsplit(url).hostname or "") and url.startswith("https://"):
        # httpx would ask the proxy for an address without its brackets.
        raise SettingsError(
            f"{url} cannot be reached through a proxy: use a host name, or name the address in NO_PROXY"
        )
    return proxy


def open_transports(
    settings: OmsSettings, *, connections_max: int, monotonic: Callable[[], float]
) -> tuple[httpx.BaseTransport, httpx.BaseTransport]:
    """Open the connections for ``oms.base_url`` and for ``oms.token_url``: the same ones if both take the same way.

    Raises SettingsError if a certificate file or a proxy cannot be used.
    """
    files = certificate_files(settings)
    proxies = [proxy_of(settings, url, os.environ) for url in (settings.base_url, settings.token_url)]
    opened = {
        proxy: _open(settings, files, proxy, connections_max=connections_max, monotonic=monotonic)
        for proxy in dict.fromkeys(proxies)
    }
    return opened[proxies[0]], opened[proxies[1]]


def _open(
    settings: OmsSettings,
    files: CertificateFiles,
    proxy: str | None,
    *,
    connections_max: int,
    monotonic: Callable[[], float],
) -> httpx.BaseTransport:
    def open_pool() -> httpx.BaseTransport:
        return open_transport(connections_max=connections_max, certificates=files.load(), proxy=proxy)

    if not files.paths:
        return open_pool()
    return RenewingTransport(
        open_pool,
        files.version,
        call_seconds_max=2 * settings.timeout + CONNECT_SECONDS_MAX,
        monotonic=monotonic,
    )
