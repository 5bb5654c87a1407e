"""compose.yaml and its mounted files, checked without containers by the programs that read them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from consumer.settings import load
from tests.support.composition import mounts, services
from tests.support.keeper import PartMissingError
from tests.support.parts import or_skip

ROOT = Path(__file__).parents[2]
OURS = {"member-1", "member-2", "oms", "generator"}
FOREIGN = {"kafka", "topics", "registry", "prometheus", "grafana"}


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        raise PartMissingError("promtool is not installed (it is not on the PATH): apt-get install prometheus")
    return found


def test_the_file_is_valid_and_has_all_services() -> None:
    assert services().keys() == OURS | FOREIGN


def test_all_mounts_are_in_the_project_and_read_only() -> None:
    for name, service in services().items():
        for path, source in mounts(name).items():
            assert source.exists(), f"{name}: {path}"
            assert source.is_relative_to(ROOT)
        assert all(volume["read_only"] for volume in service.get("volumes", []))


def test_ports_are_published_to_this_machine_only() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert len({port["published"] for port in published}) == len(published) > 0
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


def test_foreign_images_are_pinned_to_a_version() -> None:
    for name in FOREIGN:
        assert re.search(r":v?\d+\.\d+\.\d+$", services()[name]["image"]), name


def test_our_containers_have_no_privileges_and_use_stages_that_exist() -> None:
    stages = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for name in OURS:
        service = services()[name]
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    built = {name: service["build"] for name, service in services().items() if "build" in service}
    assert {name: build["target"] for name, build in built.items()} == {"member-1": "service", "oms": "sandbox"}
    assert {"service", "sandbox"} <= stages


def test_every_image_of_ours_is_built_once_and_never_pulled() -> None:
    builders = [services()[name]["image"] for name in OURS if "build" in services()[name]]
    assert len(set(builders)) == len(builders)
    for name in OURS:
        assert services()[name]["image"] in builders
        assert "build" in services()[name] or services()[name]["pull_policy"] == "never", name


def test_the_stop_grace_period_covers_requests_in_flight() -> None:
    settings = load(ROOT / "compose" / "config.yaml", {})
    for name in ("member-1", "member-2"):
        seconds = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", services()[name]["stop_grace_period"])
        assert seconds is not None
        assert 60 * int(seconds[1] or 0) + int(seconds[2] or 0) >= settings.kafka.revoke_timeout + 20


def test_the_settings_are_valid_and_point_to_the_other_services() -> None:
    settings = load(ROOT / "compose" / "config.yaml", {})
    assert settings.avro.registry_url is not None
    addresses = [f"//{settings.kafka.bootstrap_servers}", settings.avro.registry_url, settings.oms.base_url]
    assert [re.split(r"//|:\d", address)[1] for address in addresses] == ["kafka", "registry", "oms"]
    assert settings.oms.token_url.startswith(settings.oms.base_url)
    made = (ROOT / "compose" / "topics.sh").read_text()
    for topic in [*settings.kafka.topics, settings.dead_letters.topic]:
        assert re.search(rf"[ ]{re.escape(topic)}:\d", made), topic


@pytest.mark.parametrize("script", ["topics.sh", "generate.sh"])
def test_the_scripts_are_valid_shell(script: str) -> None:
    subprocess.run(["sh", "-n", ROOT / "compose" / script], check=True, timeout=30)  # noqa: S603, S607


def test_prometheus_accepts_its_configuration_and_the_alerts_of_the_chart(tmp_path: Path) -> None:
    tool = or_skip(promtool)
    settings = (ROOT / "compose" / "prometheus.yaml").read_text()
    for path, source in mounts("prometheus").items():
        settings = settings.replace(f"{path}/", f"{source}/")
    (tmp_path / "prometheus.yaml").write_text(settings)
    checked = subprocess.run(  # noqa: S603 - found on the path
        [tool, "check", "config", tmp_path / "prometheus.yaml"], capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "1 rule files found" in checked.stdout


def test_prometheus_scrapes_both_members_with_the_labels_of_dashboards_and_alerts() -> None:
    (job,) = yaml.safe_load((ROOT / "compose" / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["job_name"] == "inventory-refresh"
    assert {target: found["labels"] for found in job["static_configs"] for target in found["targets"]} == {
        f"{name}:8080": {"namespace": "compose", "pod": name} for name in ("member-1", "member-2")
    }


def test_grafana_has_the_data_source_and_the_dashboards() -> None:
    provisioning = ROOT / "compose" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "inventory-refresh.yaml").read_text())["providers"]
    there = mounts("grafana")
    assert there["/etc/grafana/provisioning"] == provisioning
    assert there[provider["options"]["path"]] == ROOT / "helm" / "inventory-refresh" / "dashboards"
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(provider["options"]["path"])
