"""Settings of the message queue: what is derived, and what does not go together."""

import pytest

from coordd.config.listing import setting_lines
from coordd.config.unread import unread_keys
from tests.unit.config.support import Directory

USER = "saslUsername: u, saslPassword: hunter2"


@pytest.mark.parametrize(
    ("kafka", "protocol"),
    [
        ("brokerList: a:1", "PLAINTEXT"),
        ("ssl: {enabled: true}", "SSL"),
        (USER, "SASL_SSL"),
        (f"{USER}, ssl: {{enabled: true}}", "SASL_SSL"),
        (f"{USER}, securityProtocol: sasl_plaintext", "SASL_PLAINTEXT"),
        ("securityProtocol: SSL", "PLAINTEXT"),
        ("securityProtocol: SASL_SSL", "PLAINTEXT"),
        ("securityProtocol: SASL_SSL, ssl: {enabled: true}", "SSL"),
        (f"{USER}, securityProtocol: SSL", "SSL"),
    ],
)
def test_the_protocol_follows_from_what_is_set(directory: Directory, kafka: str, protocol: str) -> None:
    assert directory.load(f"kafka: {{{kafka}}}").settings.kafka.protocol == protocol


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        ("saslPassword: hunter2", "kafka.saslUsername and kafka.saslPassword must be set together"),
        ("saslUsername: hunter2", "kafka.saslUsername and kafka.saslPassword must be set together"),
        ("ssl: {enabled: true, tlsCert: c}", "kafka.ssl.tlsCert and kafka.ssl.tlsKey must be set together"),
        (f"{USER}, saslMechanisms: GSSAPI", "must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        ("securityProtocol: TLS", "must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(directory: Directory, kafka: str, said: str) -> None:
    (problem,) = directory.refused(f"kafka: {{{kafka}}}")
    assert said in problem
    assert f"{directory.configs}/milvus.yaml:1" in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        ("securityProtocol: SASL_SSL", "kafka.securityProtocol (SASL_SSL) is not in force"),
        ("securityProtocol: SSL", "Kafka is spoken to in PLAINTEXT; kafka.ssl.enabled: true stands for TLS"),
        (
            "securityProtocol: SASL_SSL, ssl: {enabled: true}",
            "it counts only with kafka.saslUsername and kafka.saslPassword, as in Milvus 2.3.5. Kafka is"
            " spoken to in SSL",
        ),
        (f"{USER}, securityProtocol: SSL", "kafka.saslUsername and kafka.saslPassword are not in force"),
        (
            "producer: {acks: hunter2, linger.ms: 1, dr_cb: f}",
            "kafka.producer.acks, kafka.producer.dr_cb: not in force, coordd decides",
        ),
        (
            f"{USER}, securityProtocol: SASL_PLAINTEXT, ssl: {{enabled: true}}",
            "kafka.ssl.enabled is not in force: nothing is encrypted",
        ),
    ],
)
def test_what_is_set_for_safety_without_effect_is_said_once(
    directory: Directory, kafka: str, said: str
) -> None:
    """Milvus starts with these, and speaks to the brokers as coordd does then."""
    (warning,) = directory.load(f"kafka: {{brokerList: a:1, {kafka}}}").warnings
    assert said in warning
    assert "hunter2" not in warning


@pytest.mark.parametrize(
    "kafka",
    [
        "securityProtocol: SASL_SSL",  # Kafka is not used
        "brokerList: a:1, ssl: {enabled: true}",
        f"brokerList: a:1, {USER}",
        "brokerList: a:1, securityProtocol: SSL, ssl: {enabled: true}",
        "brokerList: a:1, securityProtocol: PLAINTEXT",
        "brokerList: a:1, securityProtocol: SSL, producer: {security.protocol: ssl, linger.ms: 1}",
    ],
)
def test_nothing_is_said_of_what_is_in_force(directory: Directory, kafka: str) -> None:
    assert directory.load(f"kafka: {{{kafka}}}").warnings == ()


@pytest.mark.parametrize(
    ("pulsar", "url"),
    [
        ("port: 1", ""),
        ("address: host", "pulsar://host:6650"),
        ("address: host, port: 1", "pulsar://host:1"),
        ("address: 'pulsar+ssl://host:2', port: 1", "pulsar+ssl://host:2"),
    ],
)
def test_the_address_of_pulsar(directory: Directory, pulsar: str, url: str) -> None:
    assert directory.load(f"pulsar: {{{pulsar}}}").settings.pulsar.service_url == url


@pytest.mark.parametrize(
    ("plugin", "login"),
    [
        ("oauth2.AuthenticationOAuth2", "oauth2"),
        ("AuthenticationAthenz", "athenz"),
        ("AuthenticationTls", "tls"),
        ("AuthenticationBasic", "basic"),
    ],
)
def test_the_java_names_of_logins(directory: Directory, plugin: str, login: str) -> None:
    needed = (
        "issuerUrl privateKey tenantDomain tenantService providerDomain ztsUrl tlsCertFile tlsKeyFile"
        " username password"
    )
    params = ",".join(f"{name}:x" for name in needed.split())
    loaded = directory.load(
        f"pulsar: {{authPlugin: org.apache.pulsar.client.impl.auth.{plugin}, authParams: '{params}'}}"
    )
    assert loaded.settings.pulsar.login == login


@pytest.mark.parametrize("plugin", ["token", "org.apache.pulsar.client.impl.auth.AuthenticationToken"])
def test_the_login_of_pulsar(directory: Directory, plugin: str) -> None:
    pulsar = directory.load(f"pulsar: {{authPlugin: {plugin}, authParams: 'token:a:b, x:y'}}").settings.pulsar
    assert pulsar.login == "token"
    assert pulsar.login_parameters() == {"token": "a:b", "x": "y"}
    assert "a:b" not in repr(pulsar)


@pytest.mark.parametrize(
    ("params", "taken", "secrets"),
    [
        (
            "issuerUrl:http://i, privateKey:data:application/json;base64,aGlk=, audience:a:b",
            {
                "issuerUrl": "http://i",
                "privateKey": "data:application/json;base64,aGlk=",
                "audience": "a:b",
            },
            ("aGlk=",),
        ),
        ("privateKey:file:///k, stray,keyId:0,", {"privateKey": "file:///k", "keyId": "0"}, ()),
        ("privateKey:/k,clientSecret:s", {"privateKey": "/k", "clientSecret": "s"}, ("s",)),
        ("privateKey:aGlk,clientId:c", {"privateKey": "aGlk", "clientId": "c"}, ("aGlk",)),
        ("username:u,password:p", {"username": "u", "password": "p"}, ("p",)),
        ("token:t", {"token": "t"}, ("t",)),
    ],
)
def test_what_a_login_is_made_of(
    directory: Directory, params: str, taken: dict[str, str], secrets: tuple[str, ...]
) -> None:
    loaded = directory.load(f"pulsar: {{authParams: '{params}'}}")
    assert loaded.settings.pulsar.login_parameters() == taken
    assert loaded.settings.pulsar.login_secrets() == secrets
    assert 'pulsar.authParams: "******"' in setting_lines(loaded)


@pytest.mark.parametrize(
    ("pulsar", "said"),
    [
        ("authPlugin: basic, authParams: 'username:hunter2'", "pulsar.authParams lacks password"),
        ("authPlugin: tls", "pulsar.authParams lacks tlsCertFile and tlsKeyFile"),
        ("authPlugin: kerberos", "pulsar.authPlugin must be token"),
        ("authPlugin: oauth2, authParams: 'issuerUrl:http://hunter2'", "pulsar.authParams lacks privateKey"),
        (
            "authPlugin: athenz, authParams: 'tenantDomain:hunter2,privateKey:file:///k,ztsUrl:http://z'",
            "pulsar.authParams lacks tenantService and providerDomain",
        ),
        ("address: 'http://host:80'", "pulsar.address must be a host, or an address like pulsar://host:6650"),
    ],
)
def test_what_pulsar_cannot_use_is_refused(directory: Directory, pulsar: str, said: str) -> None:
    (problem,) = directory.refused(f"pulsar: {{{pulsar}}}")
    assert said in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize("name", ["rocksmq", "NatsMQ"])
def test_queues_inside_a_standalone_milvus_are_refused_by_name(directory: Directory, name: str) -> None:
    (problem,) = directory.refused(f"\nmq: {{type: {name}}}")
    assert f"{directory.configs}/milvus.yaml:2: mq.type must be default, kafka, pulsar or none" in problem
    assert f"({name.lower()} lives inside a standalone Milvus" in problem


def test_another_queue_is_refused(directory: Directory) -> None:
    (problem,) = directory.refused("mq: {type: woodpecker}")
    assert 'mq.type must be default, kafka, pulsar or none, not "woodpecker"' in problem


def test_what_milvus_hands_to_its_kafka_client_is_no_misspelling(directory: Directory) -> None:
    loaded = directory.load("kafka: {consumer: {client.id: x, acks: 1}, readTimeout: 9, brokrList: a}")
    assert [key.key for key in loaded.unknown_keys] == ["kafka.brokrList"]
    assert loaded.unknown_keys[0].suggestion == "kafka.brokerList"
    assert {key.key for key in unread_keys(loaded.layers) if key.known_to_milvus} == {
        "kafka.consumer.client.id",
        "kafka.consumer.acks",
        "kafka.readTimeout",
    }


def test_what_goes_to_librdkafka_as_it_is(directory: Directory) -> None:
    """Nested or not, in files and in etcd; the higher source wins, also with nothing."""
    loaded = directory.load(
        "kafka: {Producer: {ssl: {CA.location: /c}, ssl.key.password: hunter2, linger.ms: 3, client.id: x}}",
        env={"KAFKA_PRODUCER_ACKS": "0"},
        etcd={"kafka/producer/linger.ms": "4", "kafka.producer.client.id": ""},
    )
    told = {name: value.get_secret_value() for name, value in loaded.settings.kafka.producer.items()}
    assert told == {"ssl.ca.location": "/c", "ssl.key.password": "hunter2", "linger.ms": "4"}
    assert loaded.unknown_keys == loaded.unread_keys == loaded.warnings == ()
    assert [line for line in setting_lines(loaded) if line.startswith("kafka.producer")] == [
        "kafka.producer.ssl.ca.location: /c",
        'kafka.producer.ssl.key.password: "******"',
        "kafka.producer.linger.ms: 4",
    ]
    assert "hunter2" not in repr(loaded.settings) + loaded.settings.model_dump_json()


@pytest.mark.parametrize(
    ("kafka", "said"),
    [("producer: 3", "is a section"), ("producer: {a: [{b: c}]}", "kafka.producer.a ")],
)
def test_what_is_none_of_its_settings_is_refused(directory: Directory, kafka: str, said: str) -> None:
    (problem,) = directory.refused(f"kafka: {{{kafka}}}")
    assert said in problem
