"""``ports.JobClient`` without HTTP: asks the simulated OMS, which has lists of jobs in some plans."""

from typing import TYPE_CHECKING

from consumer.core.oms.job_list import JobList, ListQuery
from consumer.core.oms.job_schedule import JobReport
from tests.simulation.oms import Oms

if TYPE_CHECKING:
    from tests.simulation.process import Process


class SimulatedJobs:
    """The job workers of one process."""

    def __init__(self, process: "Process", oms: Oms) -> None:
        self._process = process
        self._oms = oms
        self._ready: list[JobReport] = []
        self._ready_lists: list[JobList] = []
        self.has_lists = process.plan.has_lists

    def ask(self, job_id: str) -> None:
        self._process.enter()
        self._process.after(self._process.latency(), lambda: self._ready.append(self._oms.report(job_id)))

    def reports(self) -> list[JobReport]:
        self._process.enter()
        ready, self._ready = self._ready, []
        return ready

    def ask_list(self, query: ListQuery) -> None:
        self._process.enter()
        self._process.after(self._process.latency(), lambda: self._ready_lists.append(self._oms.job_list(query)))

    def lists(self) -> list[JobList]:
        self._process.enter()
        ready, self._ready_lists = self._ready_lists, []
        return ready

    def close(self) -> None:
        return None
