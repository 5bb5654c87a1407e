"""One observer for several."""

from consumer.facts import Fact, Observer


class CompositeObserver:
    """Passes each fact on to several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def observe(self, fact: Fact) -> None:
        for observer in self._observers:
            observer.observe(fact)
