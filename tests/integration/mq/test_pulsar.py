"""The Pulsar client: settings, errors, and what it puts on the wire towards a stand-in of a broker.

The stand-in shows what our side says and how it takes what it hears. What a real Pulsar makes of it has not
been tried.
"""

import asyncio
import json
import ssl
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr
from structlog.testing import capture_logs

from coordd.config.message_queue import PulsarSettings
from coordd.mq.errors import MessageRefused, QueueAccessDenied, QueueClosed, QueueTlsError, QueueUnavailable
from coordd.mq.pulsar import PulsarQueue
from tests.support.etcd_tls import make_tls
from tests.support.pulsar_broker import LEDGER, ZSTD, PulsarBroker, encode, pulsar_broker
from tests.support.queues import configured_queue

pytestmark = pytest.mark.timeout(60)

CHANNEL = "by-dev-rootcoord-dml_0"
BRIEF_S = 1.0


def settings(broker: PulsarBroker, **more: object) -> PulsarSettings:
    return PulsarSettings.model_validate({"address": broker.address, **more})


def sizes(broker: PulsarBroker) -> set[object]:
    """The sizes of what has come in, before it was compressed."""
    return {sent.metadata[9] for sent in broker.sent}


async def sent_in_the_end(queue: PulsarQueue, payload: bytes) -> bytes:
    while True:
        try:
            return await queue.send(CHANNEL, payload)
        except QueueUnavailable:
            await asyncio.sleep(0.05)


async def test_what_is_sent_and_what_comes_back(tmp_path: Path) -> None:
    async with pulsar_broker() as broker:
        text = f"pulsar: {{address: '{broker.address}', tenant: t, namespace: n}}\n"
        queue = configured_queue(tmp_path, text)
        payload = b"message " * 100
        ids = [await queue.send(CHANNEL, payload) for _ in range(3)]
        await queue.close()
        assert ids == [encode({1: LEDGER, 2: number}) for number in range(3)]  # MessageIdData
        assert {sent.topic for sent in broker.sent} == {f"persistent://t/n/{CHANNEL}"}
        for sent in broker.sent:
            assert sent.metadata[8] == ZSTD
            assert sent.metadata[9] == len(payload)
            assert sent.payload[:4] == b"\x28\xb5\x2f\xfd"  # zstd's magic number
            assert not {4, 6, 11} & set(sent.metadata)  # no properties, no key, no batch


async def test_a_login_is_made_with_the_token() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker, auth_plugin="token", auth_params=SecretStr("token:hidden")))
        await queue.send(CHANNEL, b"x")
        await queue.close()
        assert {(login[5], login[3]) for login in broker.logins} == {(b"token", b"hidden")}


async def test_a_login_is_made_with_name_and_password() -> None:
    async with pulsar_broker() as broker:
        login = SecretStr("username:somebody,password:hidden")
        queue = PulsarQueue(settings(broker, auth_plugin="basic", auth_params=login))
        await queue.send(CHANNEL, b"x")
        await queue.close()
        assert {(login[5], login[3]) for login in broker.logins} == {(b"basic", b"somebody:hidden")}


@asynccontextmanager
async def authority(answers: Mapping[str, object]) -> AsyncIterator[str]:
    """A web server that answers by the beginning of the path; yields its address. `{url}` stands for that."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        found = next(value for start, value in answers.items() if path.startswith(start))
        body = json.dumps(found).replace("{url}", url).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield url
    finally:
        server.close()


def key_file(tmp_path: Path, key: bytes) -> str:
    path = tmp_path / "key.json"
    path.write_bytes(key)
    return f"file://{path}"


def key_itself(_tmp_path: Path, key: bytes) -> str:
    return f"data:application/json;base64,{b64encode(key).decode()}"


@pytest.mark.parametrize("private_key", [key_file, key_itself])
async def test_a_login_is_made_with_a_token_of_oauth2(
    tmp_path: Path, private_key: Callable[[Path, bytes], str]
) -> None:
    key = json.dumps({"client_id": "coordd", "client_secret": "hidden"}).encode()
    told = private_key(tmp_path, key)
    answers = {
        "/.well-known/openid-configuration": {"token_endpoint": "{url}/token"},
        "/token": {"access_token": "granted", "expires_in": 3600, "token_type": "Bearer"},
    }
    async with authority(answers) as url, pulsar_broker() as broker:
        login = SecretStr(f"type:client_credentials,issuerUrl:{url},privateKey:{told},audience:a")
        with capture_logs() as lines:
            queue = PulsarQueue(settings(broker, auth_plugin="oauth2", auth_params=login))
            await queue.send(CHANNEL, b"x")
            await queue.close()
        assert {(login[5], login[3]) for login in broker.logins} == {(b"token", b"granted")}
        assert "client_secret=******&" in str(lines)
        assert "hidden" not in str(lines)
        assert "granted" not in str(lines)
        assert b64encode(key).decode() not in str(lines)


USELESS = b64encode(b'{"client_id": "coordd" "client_secret": "hidden"}').decode()


def login_by(private_key: str) -> SecretStr:
    return SecretStr(f"type:client_credentials,issuerUrl:http://127.0.0.1:1,privateKey:{private_key}")


@pytest.mark.parametrize("begin", ["", "data:application/json;base64,"])
async def test_a_key_that_is_of_no_use_is_not_told(begin: str) -> None:
    """The client tells what it could not read, or could not take for the name of a file."""
    async with pulsar_broker() as broker:
        with capture_logs() as lines:
            queue = PulsarQueue(settings(broker, auth_plugin="oauth2", auth_params=login_by(begin + USELESS)))
            with pytest.raises(QueueAccessDenied) as refused:
                await queue.send(CHANNEL, b"x")
            await queue.close()
        told = f"{lines} {refused.value}"
        assert "Failed to parse" in told
        assert USELESS not in told
        assert "hidden" not in told


async def test_the_first_client_of_a_process_prints_nothing_of_its_own(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It has a logger only when it is there, and the login is made before that."""
    program = f"""
import asyncio
from coordd.config.message_queue import PulsarSettings
from coordd.mq.pulsar import PulsarQueue

async def main():
    params = {login_by(USELESS).get_secret_value()!r}
    settings = {{"address": "localhost", "auth_plugin": "oauth2", "auth_params": params}}
    await PulsarQueue(PulsarSettings.model_validate(settings)).close()
    print("closed")

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0
    out, err = capfd.readouterr()
    assert "closed" in out
    assert "Failed to parse" in out
    assert USELESS not in out + err


async def test_a_login_is_made_with_a_token_of_athenz(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    pem, plain = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    key.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(pem, plain, serialization.NoEncryption())
    )
    answers = {"/zts/v1/domain/provider/token": {"token": "granted", "expiryTime": (1 << 32) - 1}}
    async with authority(answers) as url, pulsar_broker() as broker:
        names = {"tenantDomain": "t", "tenantService": "s", "providerDomain": "provider"}
        told = {**names, "privateKey": f"file://{key}", "ztsUrl": url}
        login = SecretStr(",".join(f"{name}:{value}" for name, value in told.items()))
        queue = PulsarQueue(settings(broker, auth_plugin="athenz", auth_params=login))
        await queue.send(CHANNEL, b"x")
        await queue.close()
        assert {(login[5], login[3]) for login in broker.logins} == {(b"athenz", b"granted")}


async def test_tls_trusts_whom_the_system_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make_tls(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server_cert, files.server_key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    login = SecretStr(f"tlsCertFile:{files.client_cert},tlsKeyFile:{files.client_key}")
    async with pulsar_broker(tls=context) as broker:

        def queue() -> PulsarQueue:
            tls = settings(broker, auth_plugin="tls", auth_params=login)
            return PulsarQueue(tls, delivery_timeout_s=BRIEF_S)

        monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))
        trusted = queue()
        await trusted.send(CHANNEL, b"x")
        await trusted.close()
        assert {login[5] for login in broker.logins} == {b"tls"}
        monkeypatch.setenv("SSL_CERT_FILE", str(files.other_ca))
        stranger = queue()
        with pytest.raises(QueueTlsError, match="certificate verify failed"):
            await stranger.send(CHANNEL, b"x")
        await stranger.close()
        assert sizes(broker) == {1}


async def test_no_topic_is_missing_until_a_broker_that_makes_none_is_asked_for_it() -> None:
    async with pulsar_broker() as broker:
        broker.makes_topics = False
        queue = PulsarQueue(settings(broker), delivery_timeout_s=BRIEF_S)
        assert await queue.missing([CHANNEL]) == ()
        with pytest.raises(QueueUnavailable, match=f"has no channel {CHANNEL}"):
            await queue.send(CHANNEL, b"x")
        await queue.close()


async def test_messages_of_a_channel_keep_their_order() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker))
        ids = await asyncio.gather(*(queue.send(CHANNEL, b"x" * size) for size in range(1, 100)))
        await queue.close()
        assert [sent.metadata[9] for sent in broker.sent] == list(range(1, 100))
        assert ids == [encode({1: LEDGER, 2: number}) for number in range(99)]


async def test_a_message_that_is_too_large_is_refused_and_spoils_nothing() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker))
        with pytest.raises(MessageRefused, match="maxMessageSize"):
            await queue.send(CHANNEL, Random(0).randbytes(6 << 20))
        await queue.send(CHANNEL, b"next")
        await queue.close()
        assert sizes(broker) == {len(b"next")}


@pytest.mark.parametrize("refusal", ["refuse", "refuse_login"])
async def test_a_refusal_is_told_apart_and_no_secret_is_told(refusal: str) -> None:
    async with pulsar_broker() as broker:
        setattr(broker, refusal, True)
        queue = PulsarQueue(
            settings(broker, auth_plugin="token", auth_params=SecretStr("token:hidden-token")),
            delivery_timeout_s=BRIEF_S,
        )
        with (
            capture_logs() as lines,
            pytest.raises(QueueAccessDenied, match=r"pulsar\.authParams") as refused,
        ):
            await queue.send(CHANNEL, b"hidden-payload")
        await queue.close()
        assert "hidden-" not in str(refused.value)
        assert lines
        assert "hidden-" not in str(lines)


async def test_a_broker_that_is_away_at_start_is_named_and_found_when_it_comes() -> None:
    async with pulsar_broker(running=False) as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=BRIEF_S)
        with pytest.raises(QueueUnavailable, match=r"pulsar\.address") as away:
            await queue.send(CHANNEL, b"lost")
        assert broker.address in str(away.value)
        await broker.start()
        await sent_in_the_end(queue, b"found")
        await queue.close()
        assert sizes(broker) == {len(b"found")}


async def test_a_broker_that_goes_and_comes_back_is_used_again() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=BRIEF_S)
        await queue.send(CHANNEL, b"before")
        await broker.stop()
        with pytest.raises(QueueUnavailable):
            await queue.send(CHANNEL, b"meanwhile")
        await broker.start()
        await sent_in_the_end(queue, b"after")
        await queue.close()


async def test_a_silent_broker_costs_the_time_out() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=BRIEF_S)
        await queue.send(CHANNEL, b"before")
        broker.mute = True
        with pytest.raises(QueueUnavailable):
            await queue.send(CHANNEL, b"unanswered")
        broker.mute = False
        await sent_in_the_end(queue, b"after")
        await queue.close()


async def test_what_its_sender_gave_up_is_not_sent_later() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=30)
        await queue.send(CHANNEL, b"before")
        await broker.stop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(BRIEF_S):
                await queue.send(CHANNEL, b"given up")
        await broker.start()
        await sent_in_the_end(queue, b"after")
        await queue.close()
        assert sizes(broker) == {len(b"before"), len(b"after")}


async def test_closing_ends_what_is_under_way() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=30)
        await queue.send(CHANNEL, b"before")
        broker.mute = True
        task = asyncio.create_task(queue.send(CHANNEL, b"unanswered"), name="send")
        await asyncio.sleep(0.1)
        await queue.close()
        with pytest.raises(QueueClosed):
            await task
        with pytest.raises(QueueClosed):
            await queue.send(CHANNEL, b"y")
        await queue.close()
