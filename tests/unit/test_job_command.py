"""The command ``job`` against the OMS sandbox over a real socket."""

import json

import httpx
import pytest

from consumer.errors import OmsRefusedError, SettingsError
from consumer.job_command import print_jobs
from consumer.sandbox.oms.server import SandboxServer
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET, SandboxSettings
from consumer.settings import Settings


def settings_for(url: str) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": "localhost:1", "topics": ["changes"]},
            "avro": {"schema_file": "none.avsc"},
            "oms": {
                "base_url": url,
                "token_url": f"{url}/oauthserver/oauth2/token",
                "api_key": SPECIFIC_KEY,
                "api_secret": SPECIFIC_SECRET,
                "track_jobs": False,
            },
        }
    )


def sandbox_with_a_job(url: str) -> str:
    """Send a request by hand; returns its jobID."""
    token = httpx.post(
        f"{url}/oauthserver/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(SPECIFIC_KEY, SPECIFIC_SECRET),
        timeout=60,
    ).json()["access_token"]
    answer = httpx.post(
        f"{url}/inv/api/v5/inventory/refresh",
        json={"locationName": "Rome", "items": [{"sku": "a", "quantity": 1}]},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
    return str(answer.json()["jobID"])


def test_a_job_is_shown_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with SandboxServer(SandboxSettings(time_scale=0)) as sandbox:
        job_id = sandbox_with_a_job(sandbox.url)
        print_jobs(settings_for(sandbox.url), [job_id, f"0{job_id}"], as_json=False)
        assert capsys.readouterr().out.count(job_id) == 2
        print_jobs(settings_for(sandbox.url), [job_id], as_json=True)

    printed = json.loads(capsys.readouterr().out)
    assert (printed["job_id"], printed["status"]) == (job_id, "SUCCESS")
    assert printed["added"].startswith("20")


def test_a_job_that_the_oms_does_not_know_is_an_error_that_says_so() -> None:
    with SandboxServer(SandboxSettings()) as sandbox, pytest.raises(OmsRefusedError, match=r"job 99: .*no job 99"):
        print_jobs(settings_for(sandbox.url), ["99"], as_json=True)


def test_text_that_is_not_a_job_id_is_refused_before_the_oms_is_asked() -> None:
    with pytest.raises(SettingsError, match="'12a' is not a jobID"):
        print_jobs(settings_for("https://oms.example"), ["12a"], as_json=True)
