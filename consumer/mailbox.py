"""Questions of other threads to the loop, which answers when it has time: a mailbox with a limit and a deadline."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Unanswered(StrEnum):
    """Why there is no answer."""

    FULL = "full"
    """Too many others wait."""
    LATE = "late"
    """The loop had no time for it."""


@dataclass(eq=False, slots=True)
class Asked(Generic[Question, Answer]):
    """A question that somebody waits for until ``deadline``. Call ``give`` or ``fail`` once."""

    question: Question
    deadline: float
    _is_over: threading.Event = field(default_factory=threading.Event)
    _answer: Answer | None = None
    _error: Exception | None = None

    def give(self, answer: Answer) -> None:
        self._answer = answer
        self._is_over.set()

    def fail(self, error: Exception) -> None:
        """The one who asked gets this exception."""
        self._error = error
        self._is_over.set()

    def wait(self, seconds: float) -> Answer | Unanswered:
        if not self._is_over.wait(seconds):
            return Unanswered.LATE
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]  # it was given


class Mailbox(Generic[Question, Answer]):
    """At most ``questions_max`` wait at a time. ``monotonic`` gives seconds."""

    def __init__(self, questions_max: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._asked: queue.Queue[Asked[Question, Answer]] = queue.Queue(questions_max)
        self._monotonic = monotonic

    def ask(self, question: Question, seconds_max: float) -> Answer | Unanswered:
        """Ask, and wait at most this long. For any thread but the loop's. Raises what answering raises."""
        asked: Asked[Question, Answer] = Asked(question, self._monotonic() + seconds_max)
        try:
            self._asked.put_nowait(asked)
        except queue.Full:
            return Unanswered.FULL
        return asked.wait(seconds_max)

    def take(self) -> Asked[Question, Answer] | None:
        """The oldest question that is still waited for, without waiting; None without one. For the loop's thread."""
        while True:
            try:
                asked = self._asked.get_nowait()
            except queue.Empty:
                return None
            if self._monotonic() < asked.deadline:
                return asked
