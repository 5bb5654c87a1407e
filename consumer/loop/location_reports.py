"""When observers are informed of single locations: that visits every location, so not in every turn."""

from collections.abc import Callable
from typing import Final

from consumer.core.engine import Engine
from consumer.core.location.views import location_views
from consumer.facts import LocationViews, Observer, PendingByLocation
from consumer.loop.timer import Timer

VIEWS_SECONDS: Final = 1.0
"""How often ``LocationViews`` is emitted while somebody looks at them."""


class LocationReports:
    """Emits ``PendingByLocation`` at an interval (None: never), and ``LocationViews`` while they are wanted."""

    def __init__(
        self,
        engine: Engine,
        observer: Observer,
        pending_interval_seconds: float | None,
        views_wanted: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._observer = observer
        self._reports_pending = pending_interval_seconds is not None
        self._pending_timer = Timer(pending_interval_seconds or 0.0)
        self._views_timer = Timer(VIEWS_SECONDS)
        self._views_wanted = views_wanted

    def turn(self, now: float) -> None:
        """Emit what is due."""
        engine = self._engine
        if self._reports_pending and self._pending_timer.is_due(now):
            self._pending_timer.restart(now)
            self._observer.observe(PendingByLocation(engine.pending_by_location(), now))
        if self._views_timer.is_due(now) and self._views_wanted():
            self._views_timer.restart(now)
            max_age_seconds, flush_items = engine.limits.max_age_seconds, engine.flush_items
            views = location_views(engine.locations, max_age_seconds=max_age_seconds, flush_items=flush_items, now=now)
            self._observer.observe(LocationViews(views, now))
