"""The pods of helm test, and the notes after an installation."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from consumer.facts import PartitionsAssigned
from consumer.observe.status.board import StatusBoard
from tests.support.chart import VALUES_FILES, container, of_kind, rendered, template
from tests.support.facts import assignment
from tests.support.fakes import FakeClock
from tests.support.release import CHART
from tests.support.status_server import running_status_server

pytestmark = pytest.mark.usefixtures("helm")

SECONDS_MAX = 120.0
"""Looking up an unknown name can take long if name servers do not answer."""


def hook_pod(values: str, name: str) -> dict[str, Any]:
    (found,) = [pod for pod in of_kind(rendered(values), "Pod") if pod["metadata"]["name"].endswith(f"-test-{name}")]
    return found


@pytest.fixture
def server() -> Iterator[tuple[StatusBoard, int]]:
    """A real status server that answers on loopback, and its board."""
    clock = FakeClock()
    board = StatusBoard(clock, version="1", settings={}, stalled_after_seconds=60.0)
    with running_status_server(board, CollectorRegistry()) as status:
        yield board, status.port


def run_status_test(host: str, port: int, seconds: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the rendered command of helm test, against another host and port."""
    container_spec = hook_pod("minimal", "status")["spec"]["containers"][0]
    script, host_in_cluster, port_in_cluster, _ = container_spec["args"]
    assert (host_in_cluster, port_in_cluster) == ("demo-inventory-refresh.shop.svc", "8080")
    assert container_spec["command"] == ["python", "-c"]
    return subprocess.run(  # noqa: S603 - a file of ours
        [sys.executable, "-c", script, host, str(port), str(seconds)],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def test_the_status_test_passes_once_the_pods_are_ready(server: tuple[StatusBoard, int]) -> None:
    board, port = server
    board.observe(PartitionsAssigned([assignment(0)]))
    ran = run_status_test("127.0.0.1", port)
    assert (ran.returncode, ran.stdout) == (0, "healthy and ready: 127.0.0.1\n")


def test_the_status_test_fails_with_the_answer_of_the_pod_that_is_not_ready(server: tuple[StatusBoard, int]) -> None:
    ran = run_status_test("127.0.0.1", server[1])
    assert ran.returncode == 1
    assert ran.stderr == "127.0.0.1/readyz: 503: not in the consumer group, waiting for partitions\n"


def test_the_status_test_fails_if_no_pod_answers_or_none_exists(server: tuple[StatusBoard, int]) -> None:
    refused = run_status_test("127.0.0.2", 9)
    assert refused.returncode == 1
    assert "127.0.0.2/healthz" in refused.stderr
    unknown = run_status_test("unknown.invalid", 9)
    assert unknown.stderr == "unknown.invalid: no pods behind this name\n"


@pytest.mark.parametrize("values", VALUES_FILES)
def test_the_check_uses_the_settings_secrets_volumes_and_resources_of_the_service(values: str) -> None:
    checking, service = hook_pod(values, "check")["spec"], container(rendered(values))
    container_spec = checking["containers"][0]
    assert container_spec["args"] == ["check"]
    assert container_spec["image"] == service["image"]
    assert container_spec["volumeMounts"] == service["volumeMounts"]
    assert container_spec["resources"] == service["resources"], "it judges memory.budget by the limit"
    assert [variable for variable in service["env"] if variable not in container_spec["env"]] == [
        variable for variable in service["env"] if variable["name"].endswith("GROUP_INSTANCE_ID")
    ]


def test_pods_of_helm_test_are_hooks_that_keep_their_logs_and_time_out() -> None:
    for pod in of_kind(rendered("minimal"), "Pod"):
        assert pod["metadata"]["annotations"] == {
            "helm.sh/hook": "test",
            "helm.sh/hook-delete-policy": "before-hook-creation",
        }
        assert pod["spec"]["restartPolicy"] == "Never"
        assert pod["spec"]["activeDeadlineSeconds"] > 120


@pytest.fixture
def notes_as_object(tmp_path: Path) -> Path:
    """The chart with its notes as a template, because ``helm template`` does not show notes."""
    chart = tmp_path / "inventory-refresh"
    shutil.copytree(CHART, chart)
    text = (chart / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    wrapped = (
        f'{{{{- define "notes" -}}}}\n{text}{{{{- end }}}}\nkind: Notes\ntext: {{{{ include "notes" . | toJson }}}}\n'
    )
    (chart / "templates" / "notes.yaml").write_text(wrapped, encoding="utf-8")
    return chart


def notes(values: str, chart: Path) -> str:
    (found,) = of_kind(template(values, chart=chart), "Notes")
    return str(found["text"])


def test_the_notes_list_the_next_steps(notes_as_object: Path) -> None:
    text = notes("minimal", notes_as_object)
    assert "kubectl -n shop rollout status deployment/demo-inventory-refresh" in text
    assert "helm test demo -n shop --logs" in text
    assert "kubectl -n shop port-forward deployment/demo-inventory-refresh 8080" in text
    assert "- Secret inventory-refresh-oms, with keys named after settings" in text
    assert "dead-letter topic inventory-refresh.dead-letters (it must exist)" in text
    assert "The metrics are not scraped yet" in text
    assert "Alerts are not installed" in text


def test_the_notes_name_what_is_still_missing_for_what_is_enabled(notes_as_object: Path) -> None:
    everything = notes("everything", notes_as_object)
    assert "set prometheusRule.runbookUrl" in everything
    assert "it has no login" in everything
    assert "Secret files in /vault/secrets" in everything
    assert "runbookUrl" not in notes("production", notes_as_object), "it is set there"
    without = of_kind(template("minimal", {"tests": {"enabled": False}}, chart=notes_as_object), "Notes")[0]["text"]
    assert "kubectl -n shop exec deployment/demo-inventory-refresh -- inventory-refresh check" in without
    assert "helm test" not in without


def test_the_notes_describe_what_was_installed(notes_as_object: Path) -> None:
    text = notes("everything", notes_as_object)
    assert "kubectl -n shop get scaledobject,hpa" in text
    assert "SecretStore vault, from which ExternalSecret stock-refresh creates a Secret" in text
    assert "Secret company-authorities with the key authorities.pem" in text
    assert "not scraped yet" not in text
    assert "Alerts are not" not in text
    assert "statefulset/demo-inventory-refresh" in notes("static-membership", notes_as_object)
