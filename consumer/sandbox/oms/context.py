"""What the sandbox's endpoints share: the state, and the events of their event loop."""

import asyncio

import anyio.to_thread
from starlette.requests import Request

from consumer.sandbox.oms.settings import Package
from consumer.sandbox.oms.smart_refresh import SyncRefresh, parse_smart_refresh
from consumer.sandbox.oms.state import SandboxState
from consumer.sandbox.oms.validation import Refresh, count_refresh, parse_refresh


class Sandbox:
    """The state of one sandbox, and the task that finishes its jobs."""

    def __init__(self, state: SandboxState) -> None:
        self.state = state
        self.stopping = asyncio.Event()
        """Set when the server stops: ends all delays."""
        self._job_added = asyncio.Event()

    def wake_on_added_jobs(self) -> None:
        """Wake ``finish_jobs`` when any thread adds a job. Call it on the event loop."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._job_added.set)

        self.state.on_job_added = wake

    async def finish_jobs(self) -> None:
        """Finish jobs as they become due, until cancelled."""
        while True:
            self._job_added.clear()
            seconds = await anyio.to_thread.run_sync(self.state.finish_due_jobs)
            await _wait(self._job_added, seconds)

    async def delay(self, seconds: float) -> None:
        """Wait, or until the server stops."""
        if seconds > 0:
            await _wait(self.stopping, seconds)

    def parse_refresh(self, body: bytes, package: Package) -> Refresh:
        """Parse and validate a refresh body. Raises RefusalError, also where a ``refuse`` fault covers an item."""
        settings = self.state.settings
        parse = parse_refresh if settings.validation == "full" else count_refresh
        refresh = parse(body, max_items=settings.max_items, package=package)
        self.state.check_refusals(refresh)
        return refresh

    def parse_smart_refresh(self, body: bytes, _package: Package) -> Refresh | SyncRefresh:
        """Parse and validate a body of smart refresh; raises as ``parse_refresh``, but not for items of a small one."""
        settings = self.state.settings
        refresh = parse_smart_refresh(
            body,
            max_items=settings.max_items,
            sync_items_max=settings.sync_items_max,
            counts_only=settings.validation == "count",
        )
        if isinstance(refresh, Refresh):
            self.state.check_refusals(refresh)
        return refresh


def sandbox_of(request: Request) -> Sandbox:
    """The sandbox that serves this request."""
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
