"""The settings with which ``check`` asks: those of the service, but with less time for what does not answer."""

from typing import Any, Final

from consumer.settings import AvroSettings, Settings

SECONDS_DEFAULT: Final = 5.0
"""Healthy servers answer sooner; half a minute, the patience of the service, is too long for a report."""


def impatient(settings: Settings, seconds_max: float) -> Settings:
    """The same settings, where each of brokers, registry and OMS has this long to answer, and is asked once.

    Messages are decoded one by one: a few are as quick that way, and a corrupt one does not make polars write to the
    terminal.
    """
    return settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"unreachable_timeout": seconds_max}),
            "avro": settings.avro.model_copy(
                update={"registry": _registry_options(settings.avro, seconds_max), "decoder": "fastavro"}
            ),
            "oms": settings.oms.model_copy(update={"timeout": min(settings.oms.timeout, seconds_max)}),
        }
    )


def _registry_options(avro: AvroSettings, seconds_max: float) -> dict[str, Any]:
    given: Any = avro.registry.get("timeout")
    seconds = min(given, seconds_max) if isinstance(given, int | float) else seconds_max
    return {**avro.registry, "timeout": seconds, "max.retries": 0}
