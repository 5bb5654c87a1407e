"""Settings that do not fit together, although each of them is right by itself."""

import re
from typing import TYPE_CHECKING, Final

from consumer.core.changes.columns import GRANULAR_COLUMN_TYPES
from consumer.settings.values import is_loopback

if TYPE_CHECKING:
    from consumer.settings.events import EventsSettings
    from consumer.settings.models import AvroSettings, OmsSettings, Settings, WindowSettings

APICURIO_URL: Final = re.compile(r"/apis/(?:ccompat|registry)/v\d+/?\s*$")
"""The end of an Apicurio Registry's URL: of its Confluent API, or of its own."""


def combination_problems(settings: "Settings") -> list[str]:
    """What does not fit together: the setting, and what is allowed. Empty if all is well."""
    window, avro, oms = settings.window, settings.avro, settings.oms
    problems = [*_item_limits(window, oms), *_schema_source(avro), *_urls(oms)]
    problems += [*_api_options(settings.events, oms), *_certificates(oms)]
    if oms.backoff_min > oms.backoff_max:
        problems.append(
            f"oms.backoff_min: {oms.backoff_min:g} s must be at most oms.backoff_max ({oms.backoff_max:g} s)"
        )
    if settings.dead_letters.topic in settings.kafka.topics:
        problems.append(f'dead_letters.topic: "{settings.dead_letters.topic}" must not be one of kafka.topics')
    return problems


def _item_limits(window: "WindowSettings", oms: "OmsSettings") -> list[str]:
    problems = []
    if oms.chunk_items > oms.max_items:
        problems.append(f"oms.chunk_items: {oms.chunk_items} must be at most oms.max_items ({oms.max_items})")
    if window.flush_items == "auto":
        if not oms.track_jobs:
            problems.append(
                "window.flush_items: auto needs oms.track_jobs: true, to know the length of the OMS's queue"
            )
        return problems
    if window.flush_items > oms.max_items:
        problems.append(f"window.flush_items: {window.flush_items} must be at most oms.max_items ({oms.max_items})")
    if window.flush_items % oms.chunk_items:
        problems.append(
            f"window.flush_items: {window.flush_items} must be a multiple of oms.chunk_items ({oms.chunk_items})"
        )
    return problems


def _schema_source(avro: "AvroSettings") -> list[str]:
    if avro.schema_file and avro.registry_url:
        return ["avro.schema_file: must not be set together with avro.registry_url; choose one"]
    if avro.framing == "container":
        named = [name for name in ("schema_file", "registry_url") if getattr(avro, name)]
        return [f"avro.{name}: must not be set, because a container file contains its schema" for name in named]
    if avro.framing not in {"confluent", "apicurio"} and not avro.schema_file:
        return [f'avro.schema_file: must be set, because avro.framing "{avro.framing}" does not work with a registry']
    if not avro.registry_url and not avro.schema_file:
        return ["avro.registry_url: must be set, or avro.schema_file instead"]
    return _registry_ids(avro)


def _registry_ids(avro: "AvroSettings") -> list[str]:
    if not avro.registry_url:
        return []
    if avro.framing == "apicurio" and avro.registry_ids is None:
        return ["avro.registry_ids: must be set for framing apicurio: global, unless producers use content ids"]
    if avro.registry_ids == "global" and not all(map(APICURIO_URL.search, avro.registry_url.split(","))):
        return ["avro.registry_url: must end in /apis/ccompat/v7 or /apis/registry/v3, because registry_ids is global"]
    return []


def _urls(oms: "OmsSettings") -> list[str]:
    if oms.allow_http:
        return []
    return [
        f"oms.{name}: must be https:// (or set oms.allow_http: true to send the key and counts in clear text)"
        for name, url in (("base_url", oms.base_url), ("token_url", oms.token_url))
        if url.startswith("http://") and not is_loopback(url)
    ]


def _api_options(events: "EventsSettings", oms: "OmsSettings") -> list[str]:
    """Settings that only one API of the OMS has."""
    if oms.api == "unified-commerce":
        needing_jobs = [] if oms.track_jobs else _needing_jobs(oms)
        if needing_jobs:
            return [f"{needing_jobs[0]}: needs oms.track_jobs"]
        return [] if oms.tenant else ["oms.tenant: must be set for oms.api unified-commerce"]
    problems = []
    if oms.endpoint == "smart-refresh":
        problems.append(f"oms.endpoint: must be refresh for oms.api {oms.api}, which has no smart refresh")
    if oms.only_sender:
        problems.append(f"oms.only_sender: needs a list of jobs, which oms.api {oms.api} does not have")
    if oms.tenant is not None:
        problems.append(f"oms.tenant: must not be set for oms.api {oms.api}")
    granular = [name for name in events.fields if name in GRANULAR_COLUMN_TYPES]
    if granular:
        problems.append(f"events.fields: {', '.join(granular)} can only be sent with oms.api unified-commerce")
    return problems


def _needing_jobs(oms: "OmsSettings") -> list[str]:
    """The settings for which jobs must be followed."""
    smart = ["oms.endpoint smart-refresh"] if oms.endpoint == "smart-refresh" else []
    return [*smart, *(["oms.only_sender"] if oms.only_sender else [])]


def _certificates(oms: "OmsSettings") -> list[str]:
    if oms.client_key_file and not oms.client_cert_file:
        return ["oms.client_cert_file: must be set, because oms.client_key_file is its key"]
    return []
