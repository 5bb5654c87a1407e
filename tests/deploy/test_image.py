"""The container images, as far as they can be checked without building them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = {re.split(r" AS ", stage, maxsplit=1)[1].split()[0]: stage for stage in DOCKERFILE.split("\nFROM ")[1:]}
BUILDING = ["sandbox-build", "build"]
RESULTS = ["sandbox", "service"]


def test_the_base_image_is_pinned_to_a_version() -> None:
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    bases = {name: stage.split()[0] for name, stage in STAGES.items()}
    assert bases == dict.fromkeys([*BUILDING, "base"], "python:${PYTHON}") | dict.fromkeys(RESULTS, "base")


def test_the_service_is_what_is_built_by_default() -> None:
    assert list(STAGES)[-1] == "service"
    assert 'CMD ["run"]' in STAGES["service"]


def test_both_images_run_without_root_stop_on_sigterm_and_have_a_health_check() -> None:
    assert re.search(r"^USER 10001:10001$", STAGES["base"], re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in STAGES["base"]
    assert "RUST_BACKTRACE=0" in STAGES["base"]
    assert 'ENTRYPOINT ["tini", "--", "inventory-refresh"]' in STAGES["base"]
    assert "/healthz" in STAGES["service"]
    for name in RESULTS:
        assert "HEALTHCHECK" in STAGES[name]
        assert "USER" not in STAGES[name]


def test_all_installed_packages_are_locked_by_hash() -> None:
    installs = re.findall(r"pip install (.*)", DOCKERFILE.replace("\\\n", " "))
    for options in installs:
        own_wheel = "--no-deps /dist/*.whl" in options
        assert own_wheel or "--require-hashes --only-binary :all:" in options, options


def test_the_lock_contains_the_build_requirements_of_the_wheel() -> None:
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "sandbox.txt").read_text(), re.MULTILINE))
    asked = (ROOT / "pyproject.toml").read_text().partition("requires = [")[2].partition("]")[0]
    names = re.findall(r'"([a-z]+)', asked)
    assert names
    assert set(names) <= locked


def test_the_images_contain_only_the_installed_environment_without_pip() -> None:
    copied = {name: re.findall(r"^COPY (.*)$", STAGES[name], re.MULTILINE) for name in ["base", *RESULTS]}
    assert copied == {
        "base": [],
        "sandbox": ["--from=sandbox-build /venv /venv"],
        "service": ["--from=build /venv /venv"],
    }
    for name in [*BUILDING, "base"]:
        assert re.search(r"pip uninstall .*\bpip$", STAGES[name], re.MULTILINE), name


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    allowed = {
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        copied |= set(line.split()[:-1])
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
