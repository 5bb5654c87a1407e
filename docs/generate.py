"""Write the pages that are made of the code: docs/configuration.md, docs/metrics.md and docs/sandbox.md.

``python docs/generate.py`` writes them; ``--check`` only says which are not current (exit code 1).
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from consumer.core.location.request import EngineLimits
from consumer.observe.metrics import Described, Metrics
from consumer.sandbox.oms import settings as oms_settings
from consumer.sandbox.oms.app import TOKEN_PATH, UNIFIED_TOKEN_PATH
from consumer.sandbox.oms.faults.rules import FAULTS, CallRule, Rule
from consumer.sandbox.oms.faults.scripted import FaultRequest, ScriptedAnswer
from consumer.settings import PREFIX, Section, Settings
from consumer.settings.values import parse_seconds

DOCS: Final = Path(__file__).parent
_BOUNDS: Final = {
    Ge: ("ge", "at least {}"),
    Gt: ("gt", "more than {}"),
    Le: ("le", "at most {}"),
    Lt: ("lt", "less than {}"),
}
_KINDS: Final[Mapping[Any, str]] = {
    bool: "true or false",
    dict: "map",
    float: "number",
    int: "whole number",
    list: "list",
    SecretStr: "secret",
    str: "text",
}

_CONFIGURATION_HEAD: Final = """\
# Configuration

<!-- Made by `make docs` from consumer/settings/models.py: change it there. -->

An option has a section and a name. It can stand in three places; the first one that has it counts:

1. **Environment:** `INVENTORY_REFRESH_<SECTION>__<NAME>` (two underscores between the two).
2. **Secret files:** files named `section__name` in the folder that `INVENTORY_REFRESH_SECRETS_DIR` names, as Kubernetes
   mounts a Secret. A line break at the end is no part of the value; hidden files are passed over.
3. **A YAML file:** `--config FILE`, or `INVENTORY_REFRESH_CONFIG`; see
   [config.example.yaml](../config.example.yaml).

What is good to know:

- An unknown section or name is an error in all three places, so a misspelt option never passes silently.
  A wrong value stops the start with exit code 2 and one line: option, value, what is allowed, and where it came from.
- An empty value counts as not given.
- A **duration** is a number of seconds, or text with a unit: `500ms`, `90s`, `5m`, `1h`.
- A **list** is a YAML list, JSON, or text with commas: `INVENTORY_REFRESH_KAFKA__TOPICS=stock,returns`.
- A **map** is a YAML map, JSON text, or one entry by its name:
  `INVENTORY_REFRESH_KAFKA__PROPERTIES__SECURITY_PROTOCOL=SSL`, or the secret file `kafka__properties__sasl.password`.
  Entries of all places add up. In variables for `kafka.properties` and `avro.registry`, underscores stand for the dots
  of the entry's name, and its case does not matter; entries of `avro.fields` are written as they are. Entries given one
  by one are text; where an option must be a number, use YAML or JSON.
- Secrets are never shown, neither in the log nor on the status page: `oms.api_key`, `oms.api_secret`, and entries of
  maps whose name looks like a secret's (password, secret, key, token and the like).
- `oms.api_key` and `oms.api_secret` are read anew at each renewal of the access token, so a changed secret needs no
  restart. All else is read once, at the start.
- Variables that Kubernetes sets for a Service called `inventory-refresh` are no options, and are passed over.
"""

_METRICS_HEAD: Final = """\
# Metrics

<!-- Made by `make docs` from consumer/observe/metrics: change it there. -->

`/metrics` serves them for Prometheus. Besides these there are `process_*` (memory, CPU, open files), and a `_created`
gauge beside each counter and histogram with the time of its first use. A histogram has the series `_bucket`, `_sum`
and `_count`. Items are never a label, there are too many of them; locations only in the series
`inventory_refresh_location_*`, which are there where [`metrics.locations_max`](configuration.md#metrics) is set.

The Kafka client tells of itself every `statistics.interval.ms` (10 s; an option of `kafka.properties`), and as often
the brokers are asked for the ends of the logs; in between the ends are known from what is fetched.
"""


_SANDBOX_HEAD: Final = """\
# The OMS sandbox

<!-- Made by `make docs` from consumer/sandbox: change it there. -->

`inventory-refresh sandbox` runs a simulated OMS: tokens, the refresh and get-job calls of all three `oms.api`, a queue
that processes one job at a time in chunks of 3,000 items, and the resulting inventory. Its status page, `/`, shows the
latest jobs and totals. It keeps everything in memory and must not be used for real data.

```sh
inventory-refresh sandbox --port 8090
inventory-refresh sandbox --fault quota:rate=0.05,retry_after=2 --fault outage:begin=60,duration=600 --fault-seed 7
```

To use it, set `oms.base_url: http://127.0.0.1:8090`, and depending on `oms.api`:

| `oms.api` | path of `oms.token_url` | `oms.api_key` | `oms.api_secret` |
| --- | --- | --- | --- |
| `inventory-specific` | `TOKEN_PATH` | `SPECIFIC_KEY` | `SPECIFIC_SECRET` |
| `inventory-v5` | `TOKEN_PATH` | `V5_KEY` | `V5_SECRET` |
| `unified-commerce` | `UNIFIED_TOKEN_PATH` | `UNIFIED_KEY` | `UNIFIED_SECRET` |

## Fault rules

A fault rule makes calls fail at random or by the clock, until it is removed. Write it as `--fault NAME:KEY=VALUE,...`
(repeatable), as JSON (`--fault '{"fault": "quota", "rate": 0.05}'`), or as a rule in a request to the control endpoint.
Repeat a key to give it several values. With the same `--fault-seed`, the same calls in the same order meet the same
faults.

Every rule has the keys `begin` (seconds until it becomes active, default 0) and `duration` (seconds for which it is
active, default unlimited). Rules marked * also have `rate` (the share of calls that they change, default 1), `call`
(`refresh`, `job` or `token`, one or more, default `refresh`) and `location` (only calls for these locations, default
all).
"""

_CONTROL: Final = """\
## The control endpoint

`POST /sandbox/faults` adds faults, `DELETE /sandbox/faults` removes all of them, `GET /sandbox/faults` lists them.
`GET /sandbox/summary`, `/sandbox/jobs` and `/sandbox/inventory` show totals, jobs and the current items.

```sh
curl -X POST http://127.0.0.1:8090/sandbox/faults -H 'content-type: application/json' -d '
  {"answers": [{"status": 503, "body": {"code": 5001}}, {"reset": "after_queue"}],
   "rules": [{"fault": "fail_job", "rate": 0.02}], "seed": 7}'
```
"""


def sandbox() -> str:
    """The text of docs/sandbox.md."""
    faults = [
        (
            f"`{fault.model_fields['fault'].default}`" + ("*" if issubclass(fault, CallRule) else ""),
            " ".join((fault.__doc__ or "").replace("``", "`").split()),
            "; ".join(_key(name, field) for name, field in fault.model_fields.items() if name not in _common(fault)),
        )
        for fault in FAULTS
    ]
    request = [(f"`{name}`", field.description or "") for name, field in FaultRequest.model_fields.items()]
    answer = [(_key(name, field), field.description or "") for name, field in ScriptedAnswer.model_fields.items()]
    tables = (
        _table(("Fault", "What happens", "Its other keys, with defaults"), faults),
        _CONTROL,
        _table(("Key", "Meaning"), ((key, _code(text)) for key, text in request)),
        "A scripted answer:\n",
        _table(("Key", "Meaning"), ((key, _code(text)) for key, text in answer)),
    )
    head = _SANDBOX_HEAD
    for name in ("SPECIFIC_KEY", "SPECIFIC_SECRET", "V5_KEY", "V5_SECRET", "UNIFIED_KEY", "UNIFIED_SECRET"):
        head = head.replace(f"`{name}`", f"`{getattr(oms_settings, name)}`")
    head = head.replace("`TOKEN_PATH`", f"`{TOKEN_PATH}`").replace("`UNIFIED_TOKEN_PATH`", f"`{UNIFIED_TOKEN_PATH}`")
    return "\n".join((head, *tables))


def _common(fault: type[Rule]) -> set[str]:
    return {"fault", *Rule.model_fields, *(CallRule.model_fields if issubclass(fault, CallRule) else ())}


def _key(name: str, field: FieldInfo) -> str:
    bare = _bare(field.annotation)
    choices = f" of {', '.join(f'`{choice}`' for choice in get_args(bare))}" if get_origin(bare) is Literal else ""
    if field.is_required():
        return f"`{name}`{choices} (required)"
    default = field.get_default(call_default_factory=True)
    if default is None or default in ((), {}, "", []):
        return f"`{name}`{choices}"
    if isinstance(default, bool):
        default = str(default).lower()
    shown = ", ".join(default) if isinstance(default, tuple) else default
    return f"`{name}`{choices} ({shown})"


def _code(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def configuration() -> str:
    """The text of docs/configuration.md."""
    parts = [_CONFIGURATION_HEAD]
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, Section):
            parts.append(f"## {section}\n\n{(model.__doc__ or '').strip()}\n\n{_option_table(section, model)}")
    return "\n".join(parts)


def metrics() -> str:
    """The text of docs/metrics.md."""
    described = Metrics(
        _NoClock(),
        limits=EngineLimits(),
        ready=bool,
        build=dict.fromkeys(("version", "python", "librdkafka", "polars"), ""),
        locations_max=1,
    ).described
    rows = [_metric_row(metric) for metric in sorted(described, key=lambda metric: metric.name)]
    return f"{_METRICS_HEAD}\n{_table(('Metric', 'Type', 'Labels', 'What it tells'), rows)}"


def _option_table(section: str, model: type[Section]) -> str:
    rows = [
        (f"`{section}.{name}`", _kind(field), _default(field), field.description or "")
        for name, field in model.model_fields.items()
    ]
    example = next(iter(model.model_fields)).upper()
    table = _table(("Option", "Kind", "Default", "ErrorClass"), rows)
    return f"In the environment: `{PREFIX}{section.upper()}__{example}` and so on.\n\n{table}"


def _kind(field: FieldInfo) -> str:
    bare = _bare(field.annotation)
    if get_origin(bare) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(bare))
    if _is_duration(field):
        return _bounded("duration", field, " s")
    return _bounded(_KINDS[get_origin(bare) or bare], field, "")


def _bare(annotation: Any) -> Any:
    """The type itself, without ``| None`` and annotations around it."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return _bare(next(part for part in get_args(annotation) if part is not type(None)))
    return annotation


def _is_duration(field: FieldInfo) -> bool:
    return any(getattr(part, "func", None) is parse_seconds for part in field.metadata)


def _bounded(kind: str, field: FieldInfo, unit: str) -> str:
    bounds = [
        words.format(f"{getattr(part, attribute):,}".removesuffix(".0") + unit)
        for bound, (attribute, words) in _BOUNDS.items()
        for part in field.metadata
        if isinstance(part, bound)
    ]
    return ", ".join([kind, *bounds])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None or value in ([], {}):
        return "none"
    if isinstance(value, list):
        return f"`{', '.join(value)}`"
    if _is_duration(field):
        return f"`{value:g}s`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _metric_row(metric: Described) -> tuple[str, ...]:
    return f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.description


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


class _NoClock:
    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "configuration.md": configuration,
    "metrics.md": metrics,
    "sandbox.md": sandbox,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` tell which differ."""
    stale = [name for name, make in PAGES.items() if not _is_current(DOCS / name, make())]
    if "--check" in arguments:
        print("\n".join(f"docs/{name} is not current: run make docs" for name in stale), end="\n" if stale else "")
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


def _is_current(page: Path, text: str) -> bool:
    return page.is_file() and page.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
