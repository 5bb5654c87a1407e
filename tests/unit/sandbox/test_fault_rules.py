"""Fault rules: when they apply, what they do to calls, and how the command line writes them."""

from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from consumer.errors import SettingsError
from consumer.sandbox.oms.app import TOKEN_PATH
from consumer.sandbox.oms.faults.active import ActiveFaults
from consumer.sandbox.oms.faults.outcome import CallOutcome
from consumer.sandbox.oms.faults.rules import Latency
from consumer.sandbox.oms.options import parse_fault, settings_from_options
from consumer.sandbox.oms.settings import SPECIFIC_KEY, SPECIFIC_SECRET, Package
from tests.unit.sandbox.oms_caller import MakeOms, ManualClock

VALID = {"sku": "1", "quantity": 1}


def active(*faults: str, seed: int = 1) -> ActiveFaults:
    rules = ActiveFaults(seed)
    rules.add([parse_fault(fault) for fault in faults], now=0.0)
    return rules


def test_the_same_seed_makes_the_same_calls_meet_the_same_faults() -> None:
    def outcomes(seed: int) -> list[CallOutcome]:
        rules = active("outage:rate=0.3", "hang:seconds=1,rate=0.5", seed=seed)
        return [rules.apply("refresh", "L", now=0.0) for _ in range(100)]

    assert outcomes(7) == outcomes(7)
    assert outcomes(7) != outcomes(8)
    assert 10 < sum(outcome.replaces_answer for outcome in outcomes(7)) < 50


@pytest.mark.parametrize(
    ("now", "is_hit"), [(0.0, False), (9.9, False), (10.0, True), (14.9, True), (15.0, False)], ids=str
)
def test_a_rule_is_active_from_its_begin_for_its_duration(now: float, is_hit: bool) -> None:  # noqa: FBT001
    rules = active("outage:begin=10,duration=5")
    assert rules.apply("refresh", "L", now).replaces_answer is is_hit


def test_a_rule_applies_only_to_its_calls_and_locations() -> None:
    rules = active("outage:location=L,location=M,call=refresh")
    hits = [rules.apply("refresh", location, 0.0).replaces_answer for location in ("L", "M", "N")]
    assert hits == [True, True, False]
    assert not rules.apply("job", "L", 0.0).replaces_answer
    assert rules.hits == {"outage": 2}


def test_delays_add_up_and_only_the_first_answer_counts() -> None:
    rules = active("hang:seconds=1", "outage:status=503", "hang:seconds=2", "answer:status=500", "fail_job")
    outcome = rules.apply("refresh", "L", 0.0)
    assert outcome.answer is not None
    assert (outcome.answer.status, outcome.delay_before_queue_seconds, outcome.is_queued) == (503, 3.0, False)
    assert not outcome.job.fails, "a request that is not queued has no job"
    assert rules.hits == {"hang": 2, "outage": 1}


def test_a_limit_lets_its_calls_through_and_answers_more_with_over_quota() -> None:
    rules = active("limit:calls=2,seconds=10,kind=rate,retry_after=3")
    over = [rules.over_limit("refresh", now) is not None for now in (0.0, 1.0, 2.0, 10.0, 10.5)]
    assert over == [False, False, True, False, True]
    answer = rules.over_limit("job", 10.6)
    assert answer is not None
    assert answer.headers == {"X-Mashery-Error-Code": "ERR_403_DEVELOPER_OVER_RATE", "Retry-After": "3"}


def test_latency_is_constant_uniform_or_lognormal() -> None:
    assert Latency(seconds=2).delay_seconds(0.9) == 2
    assert Latency(min=1, max=3).delay_seconds(0.25) == 1.5
    lognormal = Latency(median=0.2, p99=2)
    assert lognormal.delay_seconds(0.5) == pytest.approx(0.2)
    assert lognormal.delay_seconds(0.99) == pytest.approx(2)
    assert lognormal.delay_seconds(0.0) >= 0


def test_tokens_are_revoked_by_the_clock(make_oms: MakeOms, clock: ManualClock) -> None:
    oms = make_oms(clock=clock)
    oms.add_rules({"fault": "revoke", "every": 60})
    clock.advance(59)
    assert oms.refresh("L", [VALID]).status_code == 200
    clock.advance(1)
    assert oms.refresh("L", [VALID]).status_code == 401
    oms.renew()
    assert oms.refresh("L", [VALID]).status_code == 200
    assert oms.fault_hits() == {"revoke": 1}


@pytest.mark.parametrize(
    ("named", "place"), [(True, {"item": 1, "field": "sku"}), (False, {})], ids=["named", "not named"]
)
def test_a_request_with_a_refused_item_is_answered_400(
    make_oms: MakeOms, *, named: bool, place: dict[str, object]
) -> None:
    oms = make_oms()
    oms.add_rules({"fault": "refuse", "prefix": "BAD-", "named": named})
    answer = oms.refresh("L", [VALID, {"sku": "BAD-1", "quantity": 1}])
    assert answer.status_code == 400
    assert {key: answer.json()[key] for key in ("item", "field") if key in answer.json()} == place
    assert oms.refresh("L", [VALID]).status_code == 200
    (rule,) = oms.get("/sandbox/faults")["rules"]
    assert (rule["fault"], rule["hits"]) == ("refuse", 1)


def test_a_stalled_job_is_applied_after_later_jobs(make_oms: MakeOms, clock: ManualClock) -> None:
    oms = make_oms(clock=clock, seconds_per_job=1, seconds_per_chunk=0)
    oms.script({"stall_job": True, "stall_seconds": 100})
    first, second = (oms.refresh("L", [{"sku": "1", "quantity": quantity}]).json()["jobID"] for quantity in (1, 2))
    clock.advance(10)
    assert [oms.job(job_id).json()["status"] for job_id in (first, second)] == ["WORKING", "SUCCESS"]
    assert oms.state.summary().stalled_jobs == 1
    assert oms.state.inventory() == {"L": [{"sku": "1", "quantity": 2}]}
    clock.advance(100)
    assert oms.job(first).json()["status"] == "SUCCESS"
    assert oms.state.inventory() == {"L": [{"sku": "1", "quantity": 1}]}


def test_a_fault_is_written_as_pairs_or_as_json() -> None:
    pairs = parse_fault("quota:rate=0.05,retry_after=2,location=L,location=M")
    assert pairs == parse_fault('{"fault": "quota", "rate": 0.05, "retry_after": 2, "location": ["L", "M"]}')


INVALID: dict[str, tuple[str, str]] = {
    "unknown fault": ("nope", 'there is no fault "nope"; the faults are answer, outage'),
    "unknown key": ("quota:rte=1", "quota has no key rte; its keys are begin, duration, rate"),
    "missing key": ("hang", "seconds is missing"),
    "not KEY=VALUE": ("quota:rate", '"rate" is not KEY=VALUE'),
    "key given twice": ("quota:rate=1,rate=0", "rate is given twice"),
    "out of range": ("quota:rate=2", "rate must be less than or equal to 1, not '2'"),
    "two distributions": ("latency:seconds=1,min=1", "give seconds, or min and max, or median and p99"),
    "not JSON": ("{", "not JSON"),
    "job of a token": ("hang:seconds=1,when=after_queue,call=token", "only refresh requests are queued"),
}


@pytest.mark.parametrize(("text", "message"), INVALID.values(), ids=INVALID.keys())
def test_an_invalid_fault_is_an_error_that_names_it(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_fault(text)
    assert str(error.value).startswith(f"--fault {text!r}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("faults", "options", "message"),
    [
        pytest.param([], {"max_items": 0}, "--max-items is 0: must be greater than or equal to 1", id="an option"),
        pytest.param(["refuse:item=A"], {"validation": "count"}, "cannot be refused", id="refusing counted items"),
        pytest.param(["reset"] * 101, {}, "at most 100 are allowed", id="too many faults"),
    ],
)
def test_invalid_options_are_an_error(faults: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings_from_options(faults, **options)


def test_a_new_token_ripens(make_oms: MakeOms) -> None:
    clock = ManualClock()
    oms = make_oms(clock=clock, faults=(parse_fault("ripen:seconds=2"),))

    assert oms.refresh("L", [VALID]).status_code == 401
    clock.advance(2.0)
    assert oms.refresh("L", [VALID]).status_code == 200


def test_a_scope_must_be_named(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.add_rules({"fault": "scope", "value": "inventory"})

    answer = oms.request_token()
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    assert oms.request_token(scope="inventory").status_code == 200


def test_credentials_may_be_in_the_form(make_oms: MakeOms) -> None:
    oms = make_oms()
    form = {"grant_type": "client_credentials", "client_id": SPECIFIC_KEY, "client_secret": SPECIFIC_SECRET}

    assert oms.http.post(TOKEN_PATH, data=form).status_code == 200
    assert oms.http.post(TOKEN_PATH, data=form | {"client_secret": "wrong"}).status_code == 401


def test_gateways_stop_calls_with_pages_of_their_own(make_oms: MakeOms) -> None:
    oms = make_oms(time_scale=0)
    oms.add_rules({"fault": "block", "contains": "SELECT"}, {"fault": "body_limit", "size": 200})

    blocked = oms.refresh("L", [{"sku": "SELECT-OAK", "quantity": 1}])
    too_large = oms.refresh("L", [{"sku": str(number), "quantity": 1} for number in range(20)])

    assert [(page.status_code, "<h1>" in page.text) for page in (blocked, too_large)] == [(403, True), (413, True)]
    assert oms.refresh("L", [VALID]).status_code == 200
    assert oms.state.summary().fault_hits == {"block": 1, "body_limit": 1}


def test_a_gateway_wants_a_header_of_its_own(make_oms: MakeOms) -> None:
    oms = make_oms()
    oms.add_rules({"fault": "require_header", "name": "X-Key", "value": "k"})

    assert oms.refresh("L", [VALID]).status_code == 401
    oms.http.headers["X-Key"] = "k"
    assert oms.refresh("L", [VALID]).status_code == 200


def test_the_clock_may_be_ahead(make_oms: MakeOms) -> None:
    clock = ManualClock()
    oms = make_oms(clock=clock)
    oms.add_rules({"fault": "skew", "seconds": 90})

    date = parsedate_to_datetime(oms.refresh("L", [VALID]).headers["Date"]).timestamp()
    assert date == clock.now + 90


@pytest.mark.parametrize(("style", "text"), [("float", '{"jobID": 1234567.0}'), ("blanks", '{"jobID": " 1234567 "}')])
def test_a_job_id_may_be_written_oddly(make_oms: MakeOms, style: str, text: str) -> None:
    assert make_oms(faults=(parse_fault(f"job_id:style={style}"),)).refresh("L", [VALID]).text == text


def test_unified_commerce_names_its_errors_in_words(make_oms: MakeOms) -> None:
    answer = make_oms(package=Package.UNIFIED).refresh("L", [{"sku": "1", "quantity": -1}])

    assert answer.status_code == 400
    assert answer.json()["errorCode"] == "INVALID_REQUEST_DATA"
    assert {"name": "item", "value": 0} in answer.json()["additionalErrorData"]
