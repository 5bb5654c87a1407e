"""The documentation agrees with the code."""

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from consumer.cli import app
from consumer.core.changes.items import RejectReason
from consumer.core.oms.answers import AnswerKind
from consumer.settings import Settings, load

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "schemas").glob("*.md"),
        *(ROOT / "helm").rglob("*.md"),
    ]
)

SECRETS = {"INVENTORY_REFRESH_OMS__API_KEY": "k", "INVENTORY_REFRESH_OMS__API_SECRET": "s"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def commands_of_the_service() -> set[str]:
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    return commands | {str(group.typer_instance.info.name) for group in app.registered_groups if group.typer_instance}


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607 - git is on the path
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize(
    "page",
    [
        "config.schema.json",
        "configuration.md",
        "metrics.md",
        "performance.md",
        "performance-memory.svg",
        "performance-rates.svg",
        "protocol.md",
        "sandbox.md",
        "status-api.md",
        "status-api.schema.json",
    ],
)
def test_the_generated_pages_are_current(page: str) -> None:
    made = generator().PAGES[page]()
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == made, "run make docs"


def test_every_option_has_a_description_and_is_on_the_configuration_page() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section, field in Settings.model_fields.items():
        for name, option in getattr(field.annotation, "model_fields", {}).items():
            assert option.description, f"{section}.{name}"
            assert f"| `{section}.{name}` |" in page


def test_the_example_configuration_is_valid() -> None:
    example = ROOT / "config.example.yaml"
    settings = load(example, SECRETS)
    assert settings.kafka.topics == ["inventory-changes"]
    # Options that are commented out must exist too.
    offered = re.findall(r"^  # ([a-z_]+): ", example.read_text(encoding="utf-8"), re.MULTILINE)
    known = {name for field in Settings.model_fields.values() for name in getattr(field.annotation, "model_fields", {})}
    assert set(offered) <= known
    assert "api_secret" not in yaml.safe_load(example.read_text(encoding="utf-8"))["oms"]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert shown <= make_targets()
    commands = set(re.findall(r"(?:^|`)(?:\$ )?(?:\.venv/bin/)?inventory-refresh ([a-z][a-z-]*)", text, re.MULTILINE))
    assert commands <= commands_of_the_service()


def test_what_is_wrong_names_every_outcome_of_a_request() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.split("\n## What is wrong?\n")[1].split("\n## ")[0]
    named = {
        name for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert named >= {kind.value for kind in AnswerKind} - {"accepted", "applied", "not_sent"}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_within_the_project_resolve(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def test_every_reject_reason_is_explained() -> None:
    explained = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [reason for reason in RejectReason if f"`{reason}`" not in explained]


def test_no_file_names_a_machine_path_or_a_package_host() -> None:
    # Assembled here so that this file does not contain what it looks for.
    paths = "|".join("/" + place + "/" for place in ("root", "work", "home/[a-z]+", "Users/[a-z]+"))
    names = ("pypi" + ".org", "files.python" + "hosted", "maven" + ".org", "proxy.go" + "lang", "npm" + "js.")
    hosts = "|".join(re.escape(name) for name in names)
    banned = re.compile(rf"(?<![\w.:/-])(?:{paths})|{hosts}")
    found = []
    for file in tracked_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{relative(file)}: {match[0]}" for match in [banned.search(text)] if match]
    assert not found


def test_lock_files_cover_the_declared_dependencies_and_pin_hashes() -> None:
    declared = re.findall(
        r'^  "([A-Za-z0-9-]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[tool")[0], re.MULTILINE
    )
    locked = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    assert {name.lower() for name in declared if name[0].islower()} <= set(
        re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", locked, re.MULTILINE)
    )
    for lock in ("runtime", "sandbox", "dev"):
        text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
        pinned = re.findall(r"^[a-z0-9-]+(?:\[.*\])?==.*$", text, re.MULTILINE)
        assert pinned
        assert all(line.endswith("\\") for line in pinned)


def test_every_rule_of_the_protocol_is_named_in_the_code_and_lists_existing_tests() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    rules = {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "consumer").rglob("*.py"))
    named = {
        int(number)
        for numbers in re.findall(r"[Rr]ules? (\d+(?:(?:, | and )\d+)*)", code)
        for number in re.findall(r"\d+", numbers)
    }
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    exist = set(re.findall(r"def (\w+)\(", tests))
    shown = re.split(r"^## ", page, flags=re.MULTILINE)
    table = next(part for part in shown if part.startswith("What shows"))

    assert rules == set(range(1, 35))
    assert named == rules - {2}, "rule 2 is for the producers to keep"
    assert set(map(int, re.findall(r"^\| (\d+) \| `test_", table, re.MULTILINE))) == rules - {2}
    assert set(re.findall(r"`([a-z0-9_]+)`", table)) - exist == set()


def test_the_code_that_keeps_a_rule_is_where_the_protocol_says() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| \d+ \| .* \| ([^|]+) \|$", page.split("## States")[0], re.MULTILINE)
    places = [place for cell in cells for place in re.findall(r"`([^`]+)`", cell)]
    assert len(places) > 20
    missing, module = [], ""
    for place in places:
        path, _, name = place.partition(".")
        module = path or module  # `.name` alone is in the module named before it
        file = ROOT / "consumer" / f"{module}.py"
        if not file.is_file() or not re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")):
            missing.append(place)
    assert not missing
