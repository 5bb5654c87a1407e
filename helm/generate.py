"""Generate the parts of the chart that repeat other files, so that they cannot drift apart.

- README.md: the table of values, from the comments in values.yaml that begin with ``# --``.
- values.schema.json: the descriptions, from the same comments, and all of ``config``, from ``consumer.settings``.
  The rest is written by hand.

``python helm/generate.py`` writes them; ``--check`` only reports stale ones (exit code 1).
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from consumer.kafka.options import OWNED
from consumer.settings import Settings
from consumer.settings.json_schema import bare, option_schema, sections_of

CHART: Final = Path(__file__).parent / "inventory-refresh"

TABLE_BEGIN: Final = "<!-- values: generated from values.yaml by make docs -->"
TABLE_END: Final = "<!-- end of values -->"

ValuePath = tuple[str, ...]
"""The names that lead from the top of values.yaml to a value."""

NARROWER: Final[Mapping[tuple[str, str], dict[str, Any]]] = {
    # 0 picks a free port, which the probes could not know.
    ("http", "port"): {"minimum": 1},
    # Options that the service controls itself; it would refuse them at startup.
    ("kafka", "properties"): {"propertyNames": {"not": {"enum": sorted(OWNED)}}},
}
"""Restrictions of the chart beyond the type of a setting."""
NEEDED: Final = {
    "kafka": ["group_id", "revoke_timeout"],
    "avro": [],
    "oms": [],
    "dead_letters": ["topic"],
    "http": ["port"],
}
"""Settings that the templates read. In Helm, null removes a default; for these it is refused."""


# The comments of values.yaml


def descriptions(text: str) -> dict[ValuePath, str]:
    """Path of every value that has a comment, with the comment. Nested maps only, indented by two spaces."""
    found: dict[ValuePath, str] = {}
    parents: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif match := re.match(r"( *)([A-Za-z_][\w.]*):", line):
            parents = [*parents[: len(match[1]) // 2], match[2]]
            if comment:
                found[tuple(parents)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


def values(
    tree: Mapping[str, Any], described: Mapping[ValuePath, str], above: ValuePath = ()
) -> Iterator[tuple[ValuePath, Any]]:
    """Every value with its default. A map is one value unless something in it has its own comment."""
    for name, value in tree.items():
        path = (*above, name)
        if isinstance(value, dict) and any(known[: len(path)] == path and known != path for known in described):
            yield from values(value, described, path)
        else:
            yield path, value


def table() -> str:
    """README.md's table of values."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    described = descriptions(text)
    rows = ["| Value | Default | Description |", "| --- | --- | --- |"]
    for path, default in values(yaml.safe_load(text), described):
        shown = json.dumps(default, separators=(", ", ": "), ensure_ascii=False)
        cells = (f"`{'.'.join(path)}`", f"`{shown}`", described.get(path, ""))
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(rows)


# The schema of the settings


def settings_schema() -> dict[str, Any]:
    """JSON Schema of the settings file, as far as JSON Schema can express the checks of ``consumer.settings``."""
    sections = {
        name: _closed(
            {option: _option(name, option, info) for option, info in model.model_fields.items()},
            NEEDED.get(name, []),
        )
        | {"description": (model.__doc__ or "").strip()}
        for name, model in sections_of(Settings).items()
    }
    return _closed(sections, list(NEEDED)) | {
        "description": "The settings file of the service; see docs/configuration.md."
    }


def _closed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return schema | ({"required": required} if required else {})


def _option(section: str, name: str, info: FieldInfo) -> dict[str, Any]:
    if bare(info.annotation) is SecretStr:
        # Listed so that templates/_validate.tpl can refuse it and say where it belongs.
        description = (info.description or "").replace("`", "")
        return {"type": "string", "description": f"Not here, but in a secret file {section}__{name}. {description}"}
    return option_schema(info) | NARROWER.get((section, name), {})


def schema() -> str:
    """values.schema.json with ``config``, descriptions and ``required`` regenerated, and the rest as it is."""
    tree = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    described = descriptions(text)
    leaves = [path for path, _ in values(yaml.safe_load(text), described)]
    for path in leaves:
        if path[0] != "config":
            _describe(tree, path, described.get(path, ""), leaves)
    tree["properties"]["config"] = settings_schema()
    tree["definitions"]["option"]["pattern"] = rf"^({'|'.join(Settings.model_fields)})__[a-z_]+(__[-._a-zA-Z0-9]+)?$"
    tree["required"] = list(dict.fromkeys(path[0] for path in leaves))
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _describe(tree: dict[str, Any], path: ValuePath, description: str, leaves: list[ValuePath]) -> None:
    for depth, name in enumerate(path):
        siblings = [leaf[depth] for leaf in leaves if leaf[:depth] == path[:depth]]
        tree["required"] = list(dict.fromkeys(siblings))
        if name not in tree["properties"]:
            sys.exit(f"values.schema.json: add the type of {'.'.join(path)} by hand, then run this again")
        tree = tree["properties"][name]
    tree["description"] = description.replace("`", "").replace("**", "")


def readme() -> str:
    """README.md with its table regenerated."""
    before, _, rest = (CHART / "README.md").read_text(encoding="utf-8").partition(TABLE_BEGIN)
    _, _, after = rest.partition(TABLE_END)
    return f"{before}{TABLE_BEGIN}\n{table()}\n{TABLE_END}{after}"


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` report which differ."""
    made = {"values.schema.json": schema(), "README.md": readme()}
    stale = [name for name, text in made.items() if (CHART / name).read_text(encoding="utf-8") != text]
    for name in stale:
        if "--check" in arguments:
            print(f"helm/inventory-refresh/{name} is not current: run make docs")
        else:
            (CHART / name).write_text(made[name], encoding="utf-8")
            print(f"wrote helm/inventory-refresh/{name}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
