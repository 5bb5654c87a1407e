"""Where settings come from, which are refused, and that no secret is ever shown."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from consumer.errors import SettingsError
from consumer.settings import Settings, credentials_reader, load, redacted

ENOUGH = {
    "INVENTORY_REFRESH_KAFKA__BOOTSTRAP_SERVERS": "broker:9092",
    "INVENTORY_REFRESH_KAFKA__TOPICS": "stock",
    "INVENTORY_REFRESH_AVRO__REGISTRY_URL": "http://registry:8081",
    "INVENTORY_REFRESH_OMS__BASE_URL": "https://oms.example",
    "INVENTORY_REFRESH_OMS__TOKEN_URL": "https://auth.example/token",
    "INVENTORY_REFRESH_OMS__API_KEY": "the-key",
    "INVENTORY_REFRESH_OMS__API_SECRET": "the-secret",
}


def with_options(**options: str) -> dict[str, str]:
    return ENOUGH | {f"INVENTORY_REFRESH_{name}": value for name, value in options.items()}


def settings(**options: str) -> Settings:
    return load(None, with_options(**options))


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def secrets(directory: Path, **files: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


# Sources


def test_the_environment_beats_secret_files_and_those_beat_the_file(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("kafka: {group_id: from-file}\nwindow: {max_age: 1m}\nlog: {level: error}\n")
    directory = secrets(tmp_path / "secrets", kafka__group_id="from-secret", log__level="debug")
    found = load(config, with_options(LOG__LEVEL="warning"), directory)
    assert (found.window.max_age, found.kafka.group_id, found.log.level) == (60.0, "from-secret", "warning")


def test_maps_of_all_sources_are_merged_entry_by_entry(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("kafka: {properties: {security.protocol: PLAINTEXT, sasl.username: me, fetch.min.bytes: 7}}\n")
    directory = secrets(tmp_path / "secrets", **{"kafka__properties__sasl.password": "pass\n"})
    environ = with_options(
        KAFKA__PROPERTIES__SECURITY_PROTOCOL="SASL_SSL", KAFKA__PROPERTIES='{"sasl.mechanism": "PLAIN"}'
    )
    assert load(config, environ, directory).kafka.properties == {
        "security.protocol": "SASL_SSL",
        "sasl.username": "me",
        "sasl.password": "pass",
        "sasl.mechanism": "PLAIN",
        "fetch.min.bytes": 7,
    }


def test_assignments_of_a_command_beat_all_other_sources() -> None:
    found = load(
        None,
        with_options(WINDOW__MAX_AGE="1m", OMS__HEADERS='{"x-key": "a"}'),
        assignments=["window.max_age=15m", "oms.headers.x-key=b=c", "oms.chunk_items=1000"],
    )

    assert (found.window.max_age, found.oms.headers["x-key"], found.oms.chunk_items) == (900.0, "b=c", 1_000)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("window.max_aeg=15m", "--set: window.max_aeg is not a known setting; did you mean window.max_age?"),
        ("max_age=15m", "--set: max_age is not a known setting"),
        ("window.max_age", "--set 'window.max_age' is not an assignment such as window.max_age=15m"),
        ("window.max_age.x=1", "--set window.max_age.x is not a known setting: window.max_age is not a map"),
        ("window.max_age=0s", "window.max_age: '0s' must be more than 0 (from --set window.max_age)"),
    ],
)
def test_a_wrong_assignment_is_refused_with_what_is_allowed(assignment: str, words: str) -> None:
    assert words in refusal(lambda: load(None, ENOUGH, assignments=[assignment]))


def test_file_and_secrets_directory_can_be_named_in_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("window: {max_age: 7}\n")
    directory = secrets(tmp_path / "secrets", oms__max_in_flight="3")
    found = settings(CONFIG=str(config), SECRETS_DIR=str(directory))
    assert (found.window.max_age, found.oms.max_in_flight) == (7.0, 3)


def test_secrets_are_read_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    data = secrets(tmp_path / "..2026_11_23", oms__api_secret="mounted\n")
    (tmp_path / "..data").symlink_to(data, target_is_directory=True)
    (tmp_path / "oms__api_secret").symlink_to("..data/oms__api_secret")
    environ = {name: value for name, value in ENOUGH.items() if not name.endswith("API_SECRET")}
    assert load(None, environ, tmp_path).oms.api_secret.get_secret_value() == "mounted"


def test_names_of_the_oms_keep_their_case_in_the_environment() -> None:
    assert settings(EVENTS__FIELDS__partNumber="product.id", EVENTS__MATCH_BY_NAME="true").events.fields == {
        "partNumber": "product.id"
    }


def test_an_empty_value_counts_as_not_given(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("window:\n  max_age:\nhttp:\n")
    assert load(config, with_options(LOG__LEVEL="")).window.max_age == 300.0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("SERVICE_HOST", "10.0.0.1", id="host"),
        pytest.param("SERVICE_PORT_METRICS", "8080", id="named port"),
        pytest.param("PORT", "tcp://10.0.0.1:8080", id="address"),
        pytest.param("PORT_8080_TCP_ADDR", "10.0.0.1", id="address of a port"),
        pytest.param("HEADLESS_SERVICE_PORT", "8080", id="another service that begins like us"),
    ],
)
def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_ignored(variable: str, value: str) -> None:
    assert settings(**{variable: value}) == settings()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600), ("500ms", 0.5), ("1.5 s", 1.5)]
)
def test_durations_are_seconds_or_text_with_a_unit(text: str, seconds: float) -> None:
    assert settings(WINDOW__MAX_AGE=text).window.max_age == seconds


@pytest.mark.parametrize("text", ["a,b", "a, b", '["a", "b"]'])
def test_lists_are_separated_by_commas_or_are_json(text: str) -> None:
    assert settings(KAFKA__TOPICS=text).kafka.topics == ["a", "b"]


# Refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(
            {"WINDOW__MAX_AGE": "soon"},
            "window.max_age: 'soon' must be a number of seconds, or text such as",
            id="duration",
        ),
        pytest.param({"WINDOW__MAX_AGE": "0"}, "window.max_age: '0' must be more than 0 (", id="bound of a duration"),
        pytest.param({"OMS__MAX_ITEMS": "12001"}, "oms.max_items: '12001' must be at most 12000 (", id="above the OMS"),
        pytest.param({"HTTP__PORT": "http"}, "http.port: 'http' must be a whole number", id="not a number"),
        pytest.param(
            {"OMS__ALLOW_HTTP": "perhaps"}, "oms.allow_http: 'perhaps' must be true or false", id="not a boolean"
        ),
        pytest.param(
            {"LOG__LEVEL": "loud"}, "must be 'debug', 'info', 'warning' or 'error' (from environment", id="choice"
        ),
        pytest.param({"KAFKA__TOPICS": "^stock.*"}, "kafka.topics: '^stock.*' must be topic names", id="pattern"),
        pytest.param({"KAFKA__TOPICS": "a,a"}, "must not contain duplicates", id="same topic twice"),
        pytest.param({"KAFKA__TOPICS": "a,,b"}, "kafka.topics: 'a,,b' must be a list of texts", id="hole in a list"),
        pytest.param({"OMS__BASE_URL": "oms.example"}, "must be a URL such as https://", id="no scheme"),
        pytest.param({"OMS__BASE_URL": "https://h:x"}, "must be a URL such as https://", id="no port"),
        pytest.param(
            {"OMS__BASE_URL": "https://h/inv/api/v5/inventory/refresh"}, "without the path of a call", id="a call"
        ),
        pytest.param({"OMS__BASE_URL": "http://oms.example"}, "set oms.allow_http: true", id="in the clear"),
        pytest.param({"WINDOW__ITEM_KEY": "binID"}, "including one of partNumber, upc, sku", id="key of bins"),
        pytest.param({"WINDOW__ITEM_KEY": "sku,colour"}, "must be some of partNumber", id="key of unknown columns"),
        pytest.param({"EVENTS__FIELDS__colour": "a"}, "events.fields: cannot map 'colour'", id="field the OMS lacks"),
        pytest.param({"EVENTS__FIELDS__sku": "a..b"}, "must map sku to a path such as a.b", id="broken path"),
        pytest.param({"HTTP__MEMBERS": "shop.svc"}, "must be host:port, such as inventory", id="member without port"),
        pytest.param({"HTTP__MEMBERS": "http://a:8080"}, "must be host:port, such as inventory", id="member as a URL"),
        pytest.param({"HTTP__MEMBERS": "a@b:8080"}, "must be host:port, such as inventory", id="member with a user"),
        pytest.param({"HTTP__MEMBERS": "fd00::7"}, "must be host:port, such as inventory", id="bare IPv6 address"),
        pytest.param({"AVRO__FRAMING": "bare"}, "avro.schema_file: must be set", id="bare without a schema"),
        pytest.param({"AVRO__REGISTRY_URL": ""}, "avro.registry_url: must be set", id="no schema at all"),
        pytest.param({"AVRO__FRAMING": "container"}, "avro.registry_url: must not be set", id="a container's schema"),
        pytest.param({"AVRO__FRAMING": "aws-glue"}, "avro.schema_file: must be set", id="glue with a registry"),
        pytest.param({"AVRO__FRAMING": "apicurio"}, "avro.registry_ids: must be set", id="ids of either kind"),
        pytest.param({"AVRO__REGISTRY_IDS": "global"}, "avro.registry_url: must end in /apis/", id="global ids"),
        pytest.param({"AVRO__UNKNOWN_SCHEMA_WAIT": "10m"}, "avro.unknown_schema_wait", id="too much patience"),
        pytest.param({"AVRO__SCHEMA_FILE": "x.avsc"}, "choose one", id="two sources of schemas"),
        pytest.param(
            {"WINDOW__FLUSH_ITEMS": "4000"}, "window.flush_items: 4000 must be a multiple of", id="not whole chunks"
        ),
        pytest.param(
            {"OMS__MAX_ITEMS": "9000"}, "12000 must be at most oms.max_items (9000)", id="flush above request"
        ),
        pytest.param({"OMS__MAX_ITEMS": "2000"}, "oms.chunk_items: 3000 must be at most", id="chunk above request"),
        pytest.param({"WINDOW__FLUSH_ITEMS": "all"}, "must be a number from 1 to 12000, or auto", id="not a size"),
        pytest.param({"WINDOW__FLUSH_ITEMS": "0"}, "must be a number from 1 to 12000, or auto", id="zero"),
        *(
            pytest.param(
                {"MEMORY__BUDGET": text},
                f"memory.budget: '{text}' must be text such as 400MiB or 1.5GiB (units KiB, MiB, GiB), from 4MiB to "
                "1024GiB, or auto",
                id=f"budget {text}",
            )
            for text in ("400", "400MB", "0.4Gi", "-1GiB", "1e3MiB", "4095KiB", "1025GiB", "all")
        ),
        pytest.param({"OMS__BACKOFF_MIN": "2m"}, "oms.backoff_min: 120 s must be at most", id="back-off upside down"),
        pytest.param(
            {"DEAD_LETTERS__TOPIC": "stock"}, "must not be one of kafka.topics", id="dead letters into a source topic"
        ),
        pytest.param({"DEAD_LETTERS__MAX_RATIO": "nan"}, "dead_letters.max_ratio: 'nan' must be", id="NaN"),
        pytest.param({"OMS__BASE_URL": ""}, "oms.base_url: must be set (config.example.yaml shows how)", id="missing"),
        pytest.param({"KAFKA__PROPERTIES": "[1]"}, "kafka.properties: must be a map", id="list for a map"),
        pytest.param({"KAFKA__PROPERTIES": "{'a'}"}, "kafka.properties: must be valid JSON", id="broken JSON"),
        pytest.param({"KAFKA__PROPERTIES": '{"a": []}'}, 'or false for "a"', id="list in a map"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_is_allowed(options: dict[str, str], words: str) -> None:
    assert words in refusal(lambda: settings(**options))


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("400MiB", 400 * 2**20),
        ("1.5GiB", 3 * 2**29),
        (" 8192 kib ", 2**23),
        ("1GIB", 2**30),
        ("auto", "auto"),
        ("", "auto"),
    ],
)
def test_a_memory_budget_is_text_with_a_unit_or_auto(text: str, budget: int | str) -> None:
    assert settings(MEMORY__BUDGET=text).memory.budget == budget


def test_several_wrong_values_are_reported_at_once() -> None:
    line = refusal(lambda: settings(HTTP__PORT="a", LOG__LEVEL="b", OMS__TIMEOUT="c", WINDOW__MAX_AGE="d"))
    assert line.count("(from environment variable") == 3
    assert line.endswith("; and 1 more")


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        pytest.param("KAFKA_TOPICS", "did you mean INVENTORY_REFRESH_KAFKA__TOPICS?", id="one underscore"),
        pytest.param("HTTP_PORT", "did you mean INVENTORY_REFRESH_HTTP__PORT?", id="like a service's variable"),
        pytest.param("OMS__BASE_URI", "did you mean INVENTORY_REFRESH_OMS__BASE_URL?", id="misspelt"),
        pytest.param("OMS__TIMEOUT__READ", "oms.timeout is not a map", id="too deep"),
        pytest.param("QQQQ", "is not a known setting", id="nothing like it"),
    ],
)
def test_an_unknown_variable_under_our_prefix_is_refused(variable: str, words: str) -> None:
    assert words in refusal(lambda: settings(**{variable: "1"}))


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        pytest.param("kafak: {}", "unknown section 'kafak'; did you mean kafka?", id="section"),
        pytest.param("oms: {base_uri: x}", "unknown setting oms.base_uri; did you mean base_url?", id="option"),
        pytest.param("oms: [1]", "config.yaml: oms must be a map of names to values", id="list for a section"),
        pytest.param("7", "the file must be a map of names", id="number for all"),
        pytest.param("1: {}", "has the name 1, which is not text", id="number for a name"),
        pytest.param("oms: {timeout: 1, timeout: 2}", "timeout appears twice", id="same name twice"),
        pytest.param("a: b: c", "is not valid YAML: line 1", id="not YAML"),
        pytest.param("window: {flush_items: true}", "window.flush_items: True must not be true or false", id="boolean"),
        pytest.param("kafka: {group_id: 7}", "kafka.group_id: 7 must be text (put it in quotes)", id="number for text"),
        pytest.param("kafka: {properties: [1]}", "kafka.properties: must be a map", id="list for a map"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, yaml: str, words: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml)
    assert words in refusal(lambda: load(config, ENOUGH))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(lambda: load(tmp_path / "none.yaml", ENOUGH))
    assert "cannot be read: No such file" in refusal(lambda: load(None, ENOUGH, tmp_path / "none"))


def test_a_file_larger_than_any_configuration_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("#" * 1_048_577)
    assert "larger than 1048576 bytes" in refusal(lambda: load(config, ENOUGH))
    directory = secrets(tmp_path / "secrets", oms__api_key="k" * 65_537)
    assert "secret file oms__api_key is larger than" in refusal(lambda: load(None, ENOUGH, directory))


def test_an_unknown_secret_file_is_refused_with_the_closest_name(tmp_path: Path) -> None:
    directory = secrets(tmp_path / "secrets", oms__api_secrt="x")
    assert "did you mean oms__api_secret?" in refusal(lambda: load(None, ENOUGH, directory))


# Secrets

SECRET = "hunter2"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"KAFKA__PROPERTIES": '{"sasl.password": ["hunter2"]}'}, id="list in a map"),
        pytest.param({"KAFKA__PROPERTIES": '{"sasl.password": "hunter2"'}, id="broken JSON"),
        pytest.param({"OMS__BASE_URL": "https://me:hunter2@oms.example"}, id="in an address"),
        pytest.param({"AVRO__REGISTRY_URL": "http://me:hunter2@registry"}, id="in the registry's address"),
        pytest.param(
            {"AVRO__REGISTRY_URL": "http://me:/hunter2@registry"}, id="with a slash in it, which once revealed it"
        ),
        pytest.param({"AVRO__REGISTRY_URL": "http://me:p@hunter2@registry"}, id="with an @ in it"),
        pytest.param({"AVRO__REGISTRY_URL": "http://me:p hunter2@registry"}, id="with a space in it"),
        pytest.param({"OMS__API_SECRET__X": "hunter2"}, id="in a misspelt variable"),
    ],
)
def test_a_refusal_never_shows_a_secret(options: dict[str, str]) -> None:
    assert SECRET not in refusal(lambda: settings(**options))


@pytest.mark.parametrize(
    "yaml",
    [
        pytest.param("oms: {api_secret: [hunter2]}", id="list"),
        pytest.param("oms: {api_secret: hunter2: 1}", id="not YAML"),
        pytest.param("kafka: {properties: {sasl.password: {hunter2: 1}}}", id="map in a map"),
    ],
)
def test_a_refusal_of_a_file_never_shows_a_secret(tmp_path: Path, yaml: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml)
    environ = {name: value for name, value in ENOUGH.items() if "SECRET" not in name}
    assert SECRET not in refusal(lambda: load(config, environ))


def test_redacted_settings_contain_no_secret_and_are_json() -> None:
    found = settings(
        OMS__API_KEY=SECRET,
        OMS__API_SECRET=SECRET,
        KAFKA__PROPERTIES=json.dumps(
            {"sasl.password": SECRET, "ssl.key.pem": SECRET, "sasl.jaas.config": SECRET, "client.id": "me"}
        ),
        AVRO__REGISTRY__BASIC_AUTH_USER_INFO=f"me:{SECRET}",
        AVRO__REGISTRY__PROXY=f"http://me:{SECRET}@proxy",
    )
    shown = redacted(found)
    assert SECRET not in json.dumps(shown)
    assert SECRET not in repr(found.oms)
    assert shown["kafka"]["properties"]["client.id"] == "me"
    assert shown["avro"]["registry"]["proxy"] == "http://***@proxy"


def test_credentials_are_reloaded_from_their_files(tmp_path: Path) -> None:
    directory = secrets(tmp_path / "secrets", oms__api_key="key-1", oms__api_secret="secret-1")
    environ = {name: value for name, value in ENOUGH.items() if "API_" not in name}
    reload = credentials_reader(load(None, environ, directory), None, environ, directory)
    assert reload() == ("key-1", "secret-1")
    secrets(directory, oms__api_key="key-2", oms__api_secret="secret-2")
    assert reload() == ("key-2", "secret-2")


def test_credentials_that_cannot_be_reloaded_stay_as_they_were(tmp_path: Path) -> None:
    directory = secrets(tmp_path / "secrets", oms__api_key="key-1", oms__api_secret="secret-1")
    environ = {name: value for name, value in ENOUGH.items() if "API_" not in name}
    reload = credentials_reader(load(None, environ, directory), None, environ, directory)
    (directory / "oms__api_secret").unlink()
    with structlog.testing.capture_logs() as events:
        assert reload() == ("key-1", "secret-1")
    assert [event["event"] for event in events] == ["credentials_not_reloaded"]


def test_events_have_lines_with_items_and_as_container_files() -> None:
    assert not settings().has_lines
    assert settings(EVENTS__ITEMS="lines").has_lines
    assert settings(AVRO__FRAMING="container", AVRO__REGISTRY_URL="").has_lines
