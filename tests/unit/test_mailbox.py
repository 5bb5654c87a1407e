"""Questions of other threads: bounded in number and time."""

import threading

import pytest

from consumer.mailbox import Asked, Mailbox, Unanswered

SECONDS_MAX = 60.0


def asking(
    mailbox: Mailbox[str, str], question: str, seconds: float = SECONDS_MAX
) -> tuple[threading.Thread, list[object]]:
    got: list[object] = []

    def ask() -> None:
        try:
            got.append(mailbox.ask(question, seconds))
        except ValueError as error:
            got.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, got


def taken(mailbox: Mailbox[str, str]) -> Asked[str, str]:
    while (asked := mailbox.take()) is None:
        pass
    return asked


def test_a_question_is_answered_on_the_thread_that_takes_it() -> None:
    mailbox = Mailbox[str, str](1)
    assert mailbox.take() is None
    thread, got = asking(mailbox, "where?")
    asked = taken(mailbox)
    assert asked.question == "where?"
    asked.give("there")
    thread.join(SECONDS_MAX)
    assert got == ["there"]


def test_what_goes_wrong_is_raised_where_it_was_asked() -> None:
    mailbox = Mailbox[str, str](1)
    thread, got = asking(mailbox, "where?")
    taken(mailbox).fail(ValueError("a bug"))
    thread.join(SECONDS_MAX)
    assert isinstance(got[0], ValueError)


def test_one_question_too_many_is_refused_at_once() -> None:
    mailbox = Mailbox[str, str](1)
    thread, got = asking(mailbox, "first")
    while mailbox._asked.empty():
        pass
    assert mailbox.ask("second", SECONDS_MAX) is Unanswered.FULL
    taken(mailbox).give("answer")
    thread.join(SECONDS_MAX)
    assert got == ["answer"]


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_a_question_that_nobody_waits_for_any_more_is_not_answered(seconds: float) -> None:
    mailbox = Mailbox[str, str](1)
    assert mailbox.ask("where?", seconds) is Unanswered.LATE
    assert mailbox.take() is None
    assert mailbox.ask("again?", seconds) is Unanswered.LATE  # it has left its place
