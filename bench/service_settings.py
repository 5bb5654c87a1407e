"""The settings of the service in a case: what the case says, and otherwise the defaults."""

from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.load import DEBEZIUM_SCHEMA
from consumer.avro.bundled import schema_path
from consumer.sandbox.oms.app import TOKEN_PATH


def service_settings(
    case: Case, *, servers: str, topic: str, group: str, sink_url: str, port: int
) -> dict[str, dict[str, Any]]:
    """For ``port`` on the loopback interface. Dead letters go to ``dead_letter_topic(topic)``."""
    schema = DEBEZIUM_SCHEMA if case.shape == "debezium" else schema_path()
    registry = {"registry_url": sink_url} if case.shape == "mixed" else {"schema_file": str(schema)}
    return {
        "kafka": {"bootstrap_servers": servers, "topics": [topic], "group_id": group},
        "avro": registry,
        "window": {"flush_items": case.flush_items, "max_age": case.max_age_seconds},
        "oms": {
            "base_url": sink_url,
            "token_url": sink_url + TOKEN_PATH,
            "api_key": "bench",
            "api_secret": "bench",
            "chunk_items": case.chunk_items,
        },
        "dead_letters": {"topic": dead_letter_topic(topic)},
        "http": {"host": "127.0.0.1", "port": port},
        "log": {"format": "json"},
    }


def dead_letter_topic(topic: str) -> str:
    return f"{topic}.dead"


def sink_options(case: Case, second_schema: Path) -> list[str]:
    """The command-line options of the sink; ``second_schema`` is a file with the other version of the schema."""
    options = ["--chunk-items", str(case.chunk_items), "--seconds-per-chunk", str(case.seconds_per_chunk)]
    if case.shape == "mixed":
        options += ["--schema", f"1={schema_path()}", "--schema", f"2={second_schema}"]
    return options
