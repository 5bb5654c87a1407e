"""Answers of the OMS and confirmations of dead letters: what the loop does with them, and with superseded changes."""

from collections.abc import Callable, Mapping, Sequence

from consumer.core.engine import Engine
from consumer.core.location.request import Refusal
from consumer.core.oms.answers import Accepted
from consumer.errors import DeadLettersError, OmsRefusedError, StopError
from consumer.facts import ChangesDeadLettered, DeadLettersConfirmed, Observer, RequestAnswered, SmartRefreshEnded
from consumer.loop.failed_changes import refused_changes
from consumer.loop.job_follower import JobFollower
from consumer.ports import Answered, Assignment, DeadLetters, RefreshClient, x_request_id


class Answers:
    """Passes answers and confirmations to the engine, and dead-letters what the OMS refuses."""

    def __init__(
        self,
        *,
        engine: Engine,
        client: RefreshClient,
        dead_letters: DeadLetters,
        observer: Observer,
        jitter: Callable[[], float],
        assignments: Mapping[int, Assignment],
        job_follower: JobFollower | None,
        instance: str,
    ) -> None:
        """``instance`` names the process in the ids of its requests."""
        self._engine = engine
        self._client = client
        self._dead_letters = dead_letters
        self._observer = observer
        self._jitter = jitter
        self._assignments = assignments
        self._job_follower = job_follower
        self._instance = instance

    def settle(self, now: float, *, with_dead_letters: bool = True) -> StopError | None:
        """Take all answers and confirmations that have arrived. Returns why the service must stop, None if it need not.

        Without ``with_dead_letters``, confirmations are not taken. Raises DeadLettersError if a dead letter could not
        be delivered.
        """
        if with_dead_letters:
            confirmed = self._dead_letters.confirmed()
            if confirmed:
                self._engine.dead_lettered(confirmed)
                self._observer.observe(DeadLettersConfirmed(len(confirmed)))
        errors = [self._settle_request(answered, now) for answered in self._client.answers()]
        self._dead_letter(self._engine.end_set_aside(now), None)
        self._dead_letter(self._engine.take_superseded(), None)
        return next(filter(None, errors), None)

    def _settle_request(self, answered: Answered, now: float) -> StopError | None:
        settled = self._engine.settle(answered.request_id, answered.answer, jitter=self._jitter(), now=now)
        name = x_request_id(self._instance, answered.request_id)
        self._observer.observe(RequestAnswered(settled.request, answered, settled.decision, name, settled.accepted))
        if settled.smart_refresh_ended is not None:
            self._observer.observe(SmartRefreshEnded(settled.smart_refresh_ended))
        if self._job_follower and isinstance(settled.decision, Accepted):
            self._job_follower.accepted(settled.request, name, settled.decision.job_id, self._assignments, now)
        self._dead_letter(settled.refusals, name)
        if settled.fatal_reason is not None:
            return OmsRefusedError(settled.fatal_reason)
        return _too_many_refused(settled.refusals[-1]) if settled.too_many_refused else None

    def _dead_letter(self, refusals: Sequence[Refusal], name: str | None) -> None:
        """``name`` is the id of the request whose answer led to these refusals; None if no single answer did."""
        for refusal in refusals:
            changes = refused_changes(refusal, self._assignments, name)
            self._dead_letters.fetch_and_publish(changes)
            self._observer.observe(ChangesDeadLettered(changes))


def _too_many_refused(last: Refusal) -> DeadLettersError:
    return DeadLettersError(
        f"the OMS refuses too many of the latest changes (last: location {last.location!r}, {last.detail}): correct "
        "what upstream sends, or the locations in the OMS, or raise dead_letters.max_ratio; nothing past this is "
        "committed"
    )
