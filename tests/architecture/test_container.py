"""What can be known of the container image without building it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]


def test_the_base_image_is_pinned_to_a_version() -> None:
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert all(stage.startswith("python:${PYTHON}") for stage in STAGES)


def test_the_last_stage_runs_without_root_and_stops_on_sigterm() -> None:
    last = STAGES[-1]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in last
    assert "RUST_BACKTRACE=0" in last
    assert 'ENTRYPOINT ["inventory-refresh"]' in last
    assert 'CMD ["run"]' in last
    assert "/healthz" in last


def test_dependencies_are_installed_by_hash_and_the_last_stage_builds_nothing() -> None:
    assert "--require-hashes" in STAGES[0]
    assert "install" not in STAGES[-1]
    assert "COPY --from=build /venv /venv" in STAGES[-1]


def test_everything_that_is_copied_exists_and_gets_past_the_ignore_file() -> None:
    allowed = {
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in allowed
