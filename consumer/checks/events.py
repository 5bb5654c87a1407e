"""Registry, schemas and mapping, tried on the last messages of each partition."""

from collections.abc import Sequence
from contextlib import closing
from typing import Final

from consumer.avro.decoder_thread import build_batch_decoder
from consumer.avro.registry import RegistryApi
from consumer.avro.sources import SchemaUnavailableError
from consumer.avro.wire import SchemaRef, framing_of
from consumer.checks.findings import Finding, caught, failed, listed, ok, skipped, warning
from consumer.checks.messages import Tried, try_records
from consumer.core.changes.columns import LOCATION
from consumer.core.changes.items import RejectReason
from consumer.dead_letters.record import Record
from consumer.oms.apis import APIS
from consumer.settings import AvroSettings, Settings
from consumer.settings.event_sources import OCCURRED_AT_FIELD

ANY_ID: Final = 1
"""A schema id that is asked about to see whether the registry answers; it need not exist."""
REASONS_SHOWN_MAX: Final = 5
REFUSALS_SHOWN_MAX: Final = 3
_ALWAYS_FILLED: Final = frozenset({LOCATION, "quantity", OCCURRED_AT_FIELD})
"""No change lacks them."""
_OF_SCHEMAS: Final = frozenset({RejectReason.NOT_FRAMED, RejectReason.UNKNOWN_SCHEMA, RejectReason.UNUSABLE_SCHEMA})
_DECODE: Final = "inventory-refresh decode shows each message"


def check_events(settings: Settings, records: Sequence[Record] | str) -> list[Finding]:
    """Registry, schemas and mapping on these messages; in words why there are none."""
    registry = caught("registry", lambda: [check_registry(settings.avro, records)])
    if registry[0].error is not None:
        return [*registry, *(skipped(name, "no schema can be fetched") for name in ("schemas", "mapping"))]
    return [*registry, *caught("schemas", lambda: _check_mapping(settings, records))]


def check_registry(avro: AvroSettings, records: Sequence[Record] | str) -> Finding:
    """Whether the schema registry answers and lets us in, also if there is no message yet.

    Raises SettingsError if it refuses these credentials, or if an option is wrong.
    """
    if avro.registry_url is None:
        source = "come with the messages" if avro.framing == "container" else f"come from {avro.schema_file}"
        return skipped("registry", f"none is set; schemas {source}")
    with closing(RegistryApi(avro.registry_url, avro.registry, is_tls_strict=avro.registry_tls_strict)) as api:
        try:
            api.schema(_first_ref(avro, records))
        except SchemaUnavailableError as error:
            return failed("registry", str(error), "check avro.registry_url, avro.registry and the network")
    return ok("registry", f"{avro.registry_url} answers")


def _check_mapping(settings: Settings, records: Sequence[Record] | str) -> list[Finding]:
    columns = APIS[settings.oms.api].item_columns
    with closing(
        build_batch_decoder(settings.avro, settings.events, settings.window.item_key, columns, is_patient=False)
    ) as decoder:
        if not records or isinstance(records, str):
            reason = records if isinstance(records, str) else "the topics have no message yet; check again later"
            return [skipped(name, reason) for name in ("schemas", "mapping")]
        try:
            tried = try_records(decoder, records)
        except SchemaUnavailableError as error:
            advice = "check avro.registry_url, avro.registry and the network"
            return [failed("schemas", str(error), advice), skipped("mapping", "no schema can be fetched")]
    return [judge_schemas(tried, settings), *judge_mapping(tried, settings)]


def judge_schemas(tried: Tried, settings: Settings) -> Finding:
    """Whether the schema of each message is known and can be used."""
    unframed = tried.schemas[None]
    if unframed:
        line = f"not framed as avro.framing={settings.avro.framing} says: {unframed} of {_of(tried)}"
        example = tried.examples.get("not_framed")
        line += f" ({example})" if example else ""
        return _by_share("schemas", line, "correct avro.framing, or what is published", unframed, tried, settings)
    if tried.refusals:
        unreadable = sum(tried.schemas[ref] for ref in tried.refusals)
        each = (f"{_named(ref)} of {tried.schemas[ref]}: {detail}" for ref, detail in tried.refusals.items())
        line = f"the schema of {unreadable} of {_of(tried)} cannot be used: {listed(each, REFUSALS_SHOWN_MAX)}"
        advice = "correct events.fields, or avro.registry_url, avro.registry_ids and avro.schema_file"
        return _by_share("schemas", line, advice, unreadable, tried, settings)
    shown = listed(f"{_named(ref)} ({count})" for ref, count in tried.schemas.most_common() if ref is not None)
    return ok("schemas", f"those of {_of(tried)} can be used: {shown or 'none, they are tombstones'}")


def judge_mapping(tried: Tried, settings: Settings) -> list[Finding]:
    """Whether messages become changes, and whether what the settings name is there."""
    counts = _counts(tried)
    if tried.rejected:
        advice = f"correct avro and events: {_DECODE}"
        return [_by_share("mapping", counts, advice, tried.rejected, tried, settings), *_nowhere(tried)]
    findings = _nowhere(tried)
    if tried.changed:
        return [ok("mapping", counts), *findings, *_never_filled(tried, settings)]
    if not findings:
        findings = [warning("mapping", counts, f"check events.take and events.skip: {_DECODE}")]
    return findings


def _counts(tried: Tried) -> str:
    line = f"{tried.changed} of {_of(tried)} become changes"
    if tried.skipped:
        line += f", {tried.skipped} skipped"
    if tried.rejected:
        reasons = listed(
            (
                f"{count} {reason} (see schemas)"
                if reason in _OF_SCHEMAS
                else f"{count} {reason} ({tried.examples[reason]})"
                for reason, count in tried.reasons.most_common()
            ),
            REASONS_SHOWN_MAX,
        )
        line += f", {tried.rejected} rejected: {reasons}"
    return line


def _of(tried: Tried) -> str:
    return f"the last {tried.messages:,} messages"


def _by_share(check: str, line: str, advice: str, bad: int, tried: Tried, settings: Settings) -> Finding:
    """An error if the service would stop for this share of bad messages; otherwise they are dead-lettered."""
    if bad > settings.dead_letters.max_ratio * tried.messages:
        return failed(check, line, advice)
    return warning(check, f"{line}; they would be dead-lettered", advice)


def _nowhere(tried: Tried) -> list[Finding]:
    """Settings that name a field which none of the schemas has, or whose type does not fit."""
    if not tried.plans:
        return []
    mapping = tried.plans[0].mapping
    absent = frozenset.intersection(*(plan.absent for plan in tried.plans))
    findings = []
    for name in mapping.settings.fields:
        setting = f"events.fields.{name}"
        paths = [path for named, path in sorted(absent) if named == setting]
        misfits = [plan.left_out[name] for plan in tried.plans if name in plan.left_out]
        has_source = any(plan.columns.get(name) for plan in tried.plans) or bool(mapping.record_sources(name))
        if misfits and not has_source:
            findings.append(failed("mapping", misfits[0], f"map another field in {setting}, or leave it out"))
        elif paths and not has_source:
            line = f"{setting}: no schema has the field {' or '.join(paths)}"
            findings.append(failed("mapping", line, "correct it, or leave it out"))
        elif paths:
            line = f"{setting}: no schema has the field {' or '.join(paths)}, one of its sources"
            findings.append(warning("mapping", line, "correct it, or leave it out"))
    for setting, path in sorted(absent):
        if setting.removeprefix("events.") in mapping.settings.model_fields_set:  # a default is for other topics
            line = f"{setting}: no schema has the field {path}, so the condition is never true"
            findings.append(warning("mapping", line, "correct it, or leave it out"))
    return findings


def _never_filled(tried: Tried, settings: Settings) -> list[Finding]:
    """Fields that some schema has and no change has a value for, and values that could not be used."""
    findings = []
    found = {name for plan in tried.plans for name, leaves in plan.columns.items() if leaves}
    found |= {name for plan in tried.plans for name in plan.mapping.record_targets}
    empty = sorted(found - tried.filled - _ALWAYS_FILLED)
    mapped = [name for name in empty if name in settings.events.fields]
    if mapped:
        line = f"no message has a value for {', '.join(mapped)}, which events.fields maps"
        findings.append(warning("mapping", line, f"check events.fields: {_DECODE}"))
    by_name = [name for name in empty if name not in settings.events.fields]
    if by_name:
        findings.append(ok("mapping", f"optional fields that no message fills: {', '.join(by_name)}"))
    if tried.ignored:
        shown = listed(f"{name} in {count}" for name, count in tried.ignored.items())
        line = f"values that cannot be used are left out of changes: {shown}"
        findings.append(warning("mapping", line, f"check events.fields: {_DECODE}"))
    return findings


def _first_ref(avro: AvroSettings, records: Sequence[Record] | str) -> SchemaRef:
    """The schema of a message if there is one: these credentials may be allowed to read only the topics' own."""
    framing = framing_of(avro.framing, global_ids=avro.registry_ids == "global")
    for record in () if isinstance(records, str) else records:
        key = None if record.value is None else framing.key_of(record.value, framing.header_of(record.headers))
        ref = None if key is None else framing.ref_of(key)
        if ref is not None:
            return ref
    return SchemaRef("global id" if framing.kind == "global id" else "id", ANY_ID)


def _named(ref: SchemaRef) -> str:
    match ref.kind:
        case "any":
            return "the schema of avro.schema_file"
        case "schema":
            return "their own schema"
        case _:
            return str(ref)
