"""The message queue: which one it is and how it is reached (`mq`, `kafka`, `pulsar`).

Keys, meanings and defaults are Milvus'; `none` is coordd's own queue type. With `mq.type: default` the choice
falls on Pulsar or Kafka by whether an address is set, so both addresses are blank by default: Milvus' code
has it so, while the milvus.yaml that 2.3.5 ships says `pulsar.address: localhost`.

Source of truth: Milvus 2.3.5 configs/milvus.yaml, pkg/util/paramtable/service_param.go; `kafka.ssl.*` is of
2.3.11.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr, model_validator

from coordd.config.kafka_producer import kept
from coordd.config.keys import Group, Key, is_secret
from coordd.config.sections import NonEmpty, Port, Section

_STANDALONE_ONLY = ("rocksmq", "natsmq")
_PULSAR_SCHEMES = ("pulsar://", "pulsar+ssl://")
_PATHS = ("file:", "/")


def _queue_type(value: object) -> object:
    if not isinstance(value, str):
        return value
    name = value.strip().lower()
    if name in _STANDALONE_ONLY:
        raise ValueError(
            f"must be default, kafka, pulsar or none ({name} lives inside a standalone Milvus, and the"
            " coordinators of a cluster cannot share it)"
        )
    return name


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def _pulsar_address(value: str) -> str:
    if ":" in value and not value.startswith(_PULSAR_SCHEMES):
        raise ValueError("must be a host, or an address like pulsar://host:6650 or pulsar+ssl://host:6651")
    return value


class MqSettings(Section):
    """Which message queue carries inserts, deletes, schema changes and time ticks."""

    type: Annotated[
        Literal["default", "kafka", "pulsar", "none"], BeforeValidator(_queue_type), Key("mq.type")
    ] = "default"  # fmt: skip
    """default, kafka, pulsar or none. `default` = Pulsar if `pulsar.address` is set, else Kafka if
    `kafka.brokerList` is set, as in a Milvus cluster. `none` is for coordinators alone, without data nodes:
    nothing is sent then. (Milvus knows rocksmq and natsmq too, but only in a standalone process.)
    """


class KafkaSslSettings(Section):
    """TLS towards Kafka."""

    enabled: Annotated[bool, Key("kafka.ssl.enabled")] = False
    """Whether the files below are used. (Milvus has these keys since 2.3.11.)"""
    tls_cert: Annotated[Path | None, Key("kafka.ssl.tlsCert")] = None
    """PEM file of the client certificate; None (blank) = none is presented. Needs `tlsKey`."""
    tls_key: Annotated[Path | None, Key("kafka.ssl.tlsKey")] = None
    """PEM file of the client certificate's private key; None (blank) = none."""
    tls_ca_cert: Annotated[Path | None, Key("kafka.ssl.tlsCaCert")] = None
    """PEM file, or directory, of the authorities that sign the brokers' certificates; None (blank) = those of
    the system.
    """
    tls_key_password: Annotated[SecretStr, Key("kafka.ssl.tlsKeyPassword")] = SecretStr("")
    """Passphrase of the private key; blank = it has none. Never shown."""


class KafkaSettings(Section):
    """Where Kafka is and how to log in there."""

    broker_list: Annotated[tuple[NonEmpty, ...], Key("kafka.brokerList")] = ()
    """Addresses of brokers, `host:port`, comma-separated or a YAML list; any of the cluster's brokers will
    do, the others are learnt from it. Blank = Kafka is not used.
    """
    sasl_username: Annotated[SecretStr, Key("kafka.saslUsername")] = SecretStr("")
    """User that logs in; blank = no login. Set together with `saslPassword`. Never shown."""
    sasl_password: Annotated[SecretStr, Key("kafka.saslPassword")] = SecretStr("")
    """Password of that user; set together with `saslUsername`. Never shown."""
    sasl_mechanisms: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_upper),
        Key("kafka.saslMechanisms"),
    ] = "PLAIN"  # fmt: skip
    """How to log in: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; counts only with `saslUsername`."""
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None, BeforeValidator(_upper),
        Key("kafka.securityProtocol"),
    ] = None  # fmt: skip
    """How brokers are spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; None (blank) = SASL_SSL. Counts
    only with `saslUsername`, as in Milvus 2.3.5; without it that is SSL with `ssl.enabled`, else PLAINTEXT.
    """
    ssl: KafkaSslSettings = KafkaSslSettings()
    """TLS towards Kafka."""
    producer: Annotated[Mapping[str, SecretStr], Group("kafka.producer")] = {}
    """Further settings of librdkafka, the client library, by its own names: `kafka.producer.ssl.ca.location`.
    They win over all others, but for those of `coordd.config.kafka_producer`. (`kafka.consumer` is not read:
    coordd consumes nothing.) Never shown as a whole.
    """

    @property
    def protocol(self) -> str:
        """The security protocol in force: what the other processes of the cluster speak to these brokers.

        Milvus 2.3.5 reads `securityProtocol` only if somebody logs in, and its Helm chart writes SASL_SSL
        there for every cluster with a Kafka of its own, also for those without users and without TLS.
        """
        if self.sasl_username.get_secret_value():
            return self.security_protocol or "SASL_SSL"
        return "SSL" if self.ssl.enabled else "PLAINTEXT"

    def not_in_force(self) -> list[str]:
        """What is set and of no effect as things are: sentences for the operator."""
        found: list[str] = []
        wanted, protocol = self.security_protocol, self.protocol
        if ignored := kept(self.producer):
            found.append(
                f"{', '.join(f'kafka.producer.{name}' for name in ignored)}: not in force, coordd decides on"
                " this by itself, so that no message comes twice, late or out of order"
            )
        if "security.protocol" in self.producer:
            return found  # which says how brokers are spoken to, whatever the others say
        if not self.sasl_username.get_secret_value():
            if wanted not in {None, protocol}:
                found.append(
                    f"kafka.securityProtocol ({wanted}) is not in force: it counts only with"
                    " kafka.saslUsername and kafka.saslPassword, as in Milvus 2.3.5. Kafka is spoken to in"
                    f" {protocol}; kafka.ssl.enabled: true stands for TLS without a login"
                )
        elif not protocol.startswith("SASL_"):
            found.append(
                "kafka.saslUsername and kafka.saslPassword are not in force: nobody logs in with"
                f" kafka.securityProtocol {protocol}"
            )
        if self.ssl.enabled and not protocol.endswith("SSL"):
            found.append(
                "kafka.ssl.enabled is not in force: nothing is encrypted with kafka.securityProtocol"
                f" {protocol}"
            )
        return found

    @model_validator(mode="after")
    def _fits_together(self) -> "KafkaSettings":
        wrong: list[str] = []
        if bool(self.sasl_username.get_secret_value()) != bool(self.sasl_password.get_secret_value()):
            wrong.append(
                "kafka.saslUsername and kafka.saslPassword must be set together, only one of them is"
            )
        if self.ssl.enabled and (self.ssl.tls_cert is None) != (self.ssl.tls_key is None):
            wrong.append("kafka.ssl.tlsCert and kafka.ssl.tlsKey must be set together, only one of them is")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class PulsarSettings(Section):
    """Where Pulsar is and how to log in there.

    Milvus has more keys. `pulsar.requestTimeout` (60 s) is not read: a message, and finding its channel, has
    seconds here (`coordd.mq.pulsar`). Nor is `pulsar.maxMessageSize`, by which others cut what they send: of
    messages as small as RootCoord's that is for the broker to say.
    """

    address: Annotated[str, AfterValidator(_pulsar_address), Key("pulsar.address")] = ""
    """Host of the Pulsar proxy or broker, or a whole address such as pulsar+ssl://host:6651, which then says
    the port, too. Blank = Pulsar is not used. (The milvus.yaml that Milvus ships says `localhost`.)
    """
    port: Annotated[Port, Key("pulsar.port")] = 6650
    """TCP port that goes with `address` if that is a host alone."""
    tenant: Annotated[NonEmpty, Key("pulsar.tenant")] = "public"
    """Pulsar tenant that the channels belong to."""
    namespace: Annotated[NonEmpty, Key("pulsar.namespace")] = "default"
    """Namespace of that tenant that the channels belong to."""
    auth_plugin: Annotated[
        Literal[
            "token", "org.apache.pulsar.client.impl.auth.AuthenticationToken",
            "tls", "org.apache.pulsar.client.impl.auth.AuthenticationTls",
            "basic", "org.apache.pulsar.client.impl.auth.AuthenticationBasic",
            "oauth2", "org.apache.pulsar.client.impl.auth.oauth2.AuthenticationOAuth2",
            "athenz", "org.apache.pulsar.client.impl.auth.AuthenticationAthenz",
        ] | None,
        Key("pulsar.authPlugin"),
    ] = None  # fmt: skip
    """How to log in: token, tls, basic, oauth2 or athenz, or the Java class name that Pulsar uses for it;
    None (blank) = no login. Needs `authParams`.
    """
    auth_params: Annotated[SecretStr, Key("pulsar.authParams")] = SecretStr("")
    """What the login needs, as `name:value,name:value`: `token`; `tlsCertFile` and `tlsKeyFile`; `username`
    and `password`; `issuerUrl` and `privateKey` (oauth2); `tenantDomain`, `tenantService`, `providerDomain`,
    `privateKey` and `ztsUrl` (athenz). A `privateKey` is a `file:` URL, or a `data:` URL with the key itself
    in base64. Never shown.
    """

    @property
    def service_url(self) -> str:
        """`pulsar://host:port`; "" if Pulsar is not used."""
        if not self.address or ":" in self.address:
            return self.address
        return f"pulsar://{self.address}:{self.port}"

    @property
    def login(self) -> str:
        """token, tls, basic, oauth2, athenz, or "" for none."""
        name = (self.auth_plugin or "").rpartition(".")[2]
        return name.removeprefix("Authentication").lower()

    def login_parameters(self) -> dict[str, str]:
        """`authParams`, taken apart. Holds secrets. A `data:` URL has a comma of its own, before the data."""
        found: dict[str, str] = {}
        last = ""
        for part in self.auth_params.get_secret_value().split(","):
            before = found.get(last, "")
            name, separator, value = part.partition(":")
            if before.startswith("data:") and "," not in before:
                found[last] = f"{before},{part.strip()}"
            elif separator:
                last = name.strip()
                found[last] = value.strip()
        return found

    def login_secrets(self) -> tuple[str, ...]:
        """What of `authParams` must not be told: no names, no paths; of a `data:` URL what is in it."""
        return tuple(
            value.rpartition(",")[2]
            for name, value in self.login_parameters().items()
            if is_secret(name) and not (name == "privateKey" and value.startswith(_PATHS))
        )

    @model_validator(mode="after")
    def _login_is_complete(self) -> "PulsarSettings":
        needed = _LOGIN_NEEDS[self.login]
        missing = [name for name in needed if not self.login_parameters().get(name)]
        if missing:
            raise ValueError(
                f"pulsar.authPlugin is {self.login}, but pulsar.authParams lacks {' and '.join(missing)}"
            )
        return self


_LOGIN_NEEDS = {
    "": (),
    "token": ("token",),
    "tls": ("tlsCertFile", "tlsKeyFile"),
    "basic": ("username", "password"),
    "oauth2": ("issuerUrl", "privateKey"),
    "athenz": ("tenantDomain", "tenantService", "providerDomain", "privateKey", "ztsUrl"),
}
