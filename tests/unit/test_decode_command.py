"""The command ``decode``: what becomes of messages, without sending anything."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consumer.cli import app
from consumer.decode_command import SAMPLE_BYTES, Sample, _Latest
from consumer.sandbox.embedded_broker import EmbeddedBroker
from tests.support.avro import message

SCHEMA = Path(__file__).parents[2] / "schemas" / "inventory-change.avsc"


def config(tmp_path: Path, events: Mapping[str, Any] | None = None) -> str:
    settings = {
        "kafka": {"bootstrap_servers": "127.0.0.1:1", "topics": ["stock"]},
        "avro": {"schema_file": str(SCHEMA)},
        "events": dict(events or {}),
        "oms": {
            "base_url": "https://oms.example",
            "token_url": "https://oms.example/token",
            "api_key": "k",
            "api_secret": "s",
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return str(path)


def decoded(tmp_path: Path, value: bytes, *options: str, events: Mapping[str, Any] | None = None) -> str:
    file = tmp_path / "value.bin"
    file.write_bytes(value)
    result = CliRunner().invoke(app, ["decode", str(file), "--config", config(tmp_path, events), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_message_is_shown_as_its_change_with_the_source_of_each_field(tmp_path: Path) -> None:
    events = {"fields": {"locationName": "=Rome", "partNumber": "sku", "quantity": "quantity"}}

    lines = decoded(tmp_path, message(sku="B-1", quantity=4), events=events).splitlines()

    assert lines[0] == "value.bin: change"
    shown = {tuple(line.split()) for line in lines[1:]}
    assert shown >= {
        ("locationName", "Rome", "=Rome"),
        ("partNumber", "B-1", "sku", "(string)"),
        ("quantity", "4", "quantity", "(long)"),
    }


@pytest.mark.parametrize(
    ("value", "events", "line"),
    [
        (message(quantity=-1), {}, "value.bin: reject negative_quantity: quantity is -1, below 0"),
        (message()[:-3], {}, "value.bin: reject corrupt: "),
        (message(), {"skip": {"sku": "s1"}}, "value.bin: skipped (not_taken)"),
    ],
    ids=["rule", "corrupt", "skipped"],
)
def test_what_is_no_change_is_shown_with_its_reason(
    tmp_path: Path, value: bytes, events: dict[str, Any], line: str
) -> None:
    assert decoded(tmp_path, value, events=events).startswith(line)


def test_each_message_can_be_one_json_object(tmp_path: Path) -> None:
    shown = json.loads(decoded(tmp_path, message(), "--json"))

    assert shown["changes"][0]["sku"] == "s1"
    assert shown["sources"]["sku"] == "sku (string)"
    assert shown["rejects"] == []


def test_a_file_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["decode", str(tmp_path / "no.bin"), "--config", config(tmp_path)])

    assert "no.bin" in str(result.exception or result.output)


def test_a_topic_without_messages_is_said_to_have_none(tmp_path: Path) -> None:
    with EmbeddedBroker(["stock"]) as broker:
        path = tmp_path / "here.yaml"
        settings = json.loads(Path(config(tmp_path)).read_text(encoding="utf-8"))
        settings["kafka"]["bootstrap_servers"] = broker.bootstrap_servers
        path.write_text(json.dumps(settings), encoding="utf-8")
        result = CliRunner().invoke(app, ["decode", "--config", str(path)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert 'Topic "stock" has no messages.' in result.stderr


def sample(timestamp: int, value: bytes = b"") -> Sample:
    return Sample(f"stock[0] @ {timestamp}", "stock", value, timestamp=timestamp)


def test_the_latest_messages_of_all_partitions_are_kept() -> None:
    kept = _Latest(3)
    kept.add([sample(5), sample(1)])
    kept.add([sample(4), sample(2), sample(6)])
    assert [found.timestamp for found in kept.samples] == [4, 5, 6]
    assert not kept.has_dropped


def test_of_large_messages_fewer_are_kept_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.decode_command.KEPT_BYTES_MAX", 3 * SAMPLE_BYTES + 1_000)
    kept = _Latest(100)
    kept.add([sample(1), sample(5, b"x" * 1_001), sample(6), sample(7)])
    assert kept.has_dropped
    assert [found.timestamp for found in kept.samples] == [6, 7]
    kept.add([sample(2)])  # there would be room for it
    assert [found.timestamp for found in kept.samples] == [6, 7]
    kept.add([sample(8)])
    assert [found.timestamp for found in kept.samples] == [6, 7, 8]
