"""The command ``produce``: publishes changes to the configured topic and shows the progress."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.progress import TextColumn

from consumer.errors import SettingsError
from consumer.kafka.options import connection_options, token_callback
from consumer.kafka.sasl import check_sasl
from consumer.sandbox.change_files import FileFormat, events_in
from consumer.sandbox.generator import SCHEMA_ID, distinct_changes
from consumer.sandbox.publisher import Encoder, Event, publish, register
from consumer.settings import Settings
from consumer.terminal import console, progress_bar

_SECONDS_MIN: Final = 0.1
"""Publishing that took less says nothing about a rate."""


@dataclass(frozen=True, slots=True)
class ChangesFile:
    """A file with changes, ``-`` for standard input. Without a format its name decides."""

    path: Path
    file_format: FileFormat | None = None

    @property
    def size_bytes(self) -> int | None:
        """None: not known, as of a pipe."""
        return self.path.stat().st_size if self.path.is_file() else None


@dataclass(frozen=True, slots=True)
class Generated:
    """Changes of ``count`` distinct items, made from a seed and spread over the locations."""

    count: int
    locations: int
    seed: int


def produce_events(settings: Settings, changes: ChangesFile | Generated, *, topic: str | None) -> None:
    """Publish the changes of a file, or generated ones, to the topic (None: the first of ``kafka.topics``).

    With a registry, the bundled schema is registered for the topic. With a schema file the events carry a fixed schema
    ID, since the service then ignores it. Raises SettingsError or BrokerError.
    """
    if settings.avro.framing != "confluent":
        raise SettingsError(f"avro.framing is {settings.avro.framing}: produce supports only confluent")
    target = topic or settings.kafka.topics[0]
    schema_id = (
        register(settings.avro.registry_url, target, settings.avro.registry)
        if settings.avro.registry_url
        else SCHEMA_ID
    )
    check_sasl(settings.kafka)
    connection = connection_options(settings.kafka)
    started = time.monotonic()
    with progress_bar(f"Publishing to {target}", TextColumn("{task.fields[published]:,} changes")) as progress:
        total = changes.count if isinstance(changes, Generated) else changes.size_bytes
        task = progress.add_task("", total=total, published=0)

        def on_published(published: int) -> None:
            progress.update(task, published=published)
            if isinstance(changes, Generated):
                progress.update(task, completed=published)

        published = publish(
            _events(changes, schema_id, lambda read: progress.update(task, completed=read)),
            bootstrap_servers=settings.kafka.bootstrap_servers,
            topic=target,
            properties=connection,
            callbacks=token_callback(connection, settings.kafka),
            on_progress=on_published,
        )
    console(stderr=True).print(_summary(published, target, time.monotonic() - started), soft_wrap=True)


def _events(changes: ChangesFile | Generated, schema_id: int, on_bytes: Callable[[int], None]) -> Iterable[Event]:
    if isinstance(changes, ChangesFile):
        return events_in(changes.path, Encoder(schema_id), changes.file_format, on_bytes)
    return distinct_changes(changes.count, locations=changes.locations, seed=changes.seed, schema_id=schema_id)


def _summary(published: int, topic: str, seconds: float) -> str:
    rate = f" in {seconds:.1f} s ({published / seconds:,.0f} a second)" if seconds >= _SECONDS_MIN else ""
    return f"{published:,} changes published to {topic}{rate}."
