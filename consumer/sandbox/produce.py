"""The command ``produce``: publishes changes to the configured topic and shows the progress."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from consumer.errors import SettingsError
from consumer.kafka.options import connection_options, token_callback
from consumer.kafka.sasl import check_sasl
from consumer.sandbox.generator import SCHEMA_ID, distinct_changes
from consumer.sandbox.publisher import Encoder, Event, events_in, publish, register
from consumer.settings import Settings


def produce_events(
    settings: Settings, *, topic: str | None, file: Path | None, count: int | None, locations: int, seed: int
) -> None:
    """Publish the changes of ``file``, or ``count`` generated ones.

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
    console = Console(stderr=True)
    columns = (TextColumn("Publishing to {task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(target, total=count)
        published = publish(
            _events(schema_id, file=file, count=count, locations=locations, seed=seed),
            bootstrap_servers=settings.kafka.bootstrap_servers,
            topic=target,
            properties=connection,
            callbacks=token_callback(connection, settings.kafka),
            on_progress=lambda done: progress.update(task, completed=done),
        )
    console.print(f"{published:,} changes published to {target}.")


def _events(schema_id: int, *, file: Path | None, count: int | None, locations: int, seed: int) -> Iterable[Event]:
    if file is not None:
        return events_in(Path("/dev/stdin") if str(file) == "-" else file, Encoder(schema_id))
    return distinct_changes(count or 0, locations=locations, seed=seed, schema_id=schema_id)
