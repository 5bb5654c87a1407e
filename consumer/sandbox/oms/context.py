"""What the sandbox's endpoints share: the state, and the events of the loop they run on."""

import asyncio

import anyio.to_thread
from starlette.requests import Request

from consumer.sandbox.oms.settings import Package
from consumer.sandbox.oms.state import SandboxState
from consumer.sandbox.oms.validation import Refresh, count_refresh, read_refresh


class Sandbox:
    """The state of one sandbox, and those who wait on its loop."""

    def __init__(self, state: SandboxState) -> None:
        self.state = state
        self.stopping = asyncio.Event()
        self._job_added = asyncio.Event()

    def hear_of_jobs(self) -> None:
        """Wake the worker whenever a job is added, from whichever thread. Call on the loop."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._job_added.set)

        self.state.job_added = wake

    async def work(self) -> None:
        """Work the queue off, until cancelled."""
        while True:
            self._job_added.clear()
            seconds = await anyio.to_thread.run_sync(self.state.work_off)
            await _wait(self._job_added, seconds)

    async def hang(self, seconds: float) -> None:
        """Wait, but no longer than the server lives."""
        if seconds > 0:
            await _wait(self.stopping, seconds)

    def read(self, body: bytes, package: Package) -> Refresh:
        """Check a request's body as the settings and the faults that stand say; raises RefusalError."""
        settings = self.state.settings
        check = read_refresh if settings.validation == "full" else count_refresh
        refresh = check(body, max_items=settings.max_items, package=package)
        self.state.refuse(refresh)
        return refresh


def sandbox_of(request: Request) -> Sandbox:
    """The sandbox that the request came to."""
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
