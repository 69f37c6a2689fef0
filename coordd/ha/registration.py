"""Registration of one session: server ID, lease, and the replica's own key.

Source: Milvus 2.3.5 internal/util/sessionutil/session_util.go (getServerIDWithKey, registerService).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.etcd import Compare, EtcdClient, Put
from coordd.etcd.errors import EtcdError
from coordd.ha.session import SessionRecord
from coordd.log import get_logger
from coordd.meta.layout import MetaLayout

log = get_logger("coordd.ha.registration")

PARTING_TIMEOUT_S = 1.0
"""How long a registration that failed waits for etcd to take its lease back."""


class ServerIdCounterCorrupt(CoorddError):
    """The counter of server IDs is not a decimal number; no ID can be handed out safely."""


@dataclass(frozen=True, slots=True)
class Session:
    """A registered session: its record, its lease, and the moment before the lease was asked for."""

    record: SessionRecord
    lease_id: int
    ttl_s: int
    granted_at: float


async def allocate_server_id(client: EtcdClient, layout: MetaLayout) -> int:
    """Take the next server ID from `<meta>/session/id` (a decimal string, the *next* ID).

    Raises:
        ServerIdCounterCorrupt: the counter does not parse. It is left as it is.
        EtcdError: etcd did not answer. An ID may then be skipped, never given twice.
    """
    key = layout.server_id_counter
    await client.txn([Compare.version(key, 0)], [Put(key, b"1")])
    while True:
        current = (await client.get(key)).kv
        if current is None:  # deleted between the two requests: an operator resets the cluster
            await client.txn([Compare.version(key, 0)], [Put(key, b"1")])
            continue
        try:
            server_id = int(current.value)
        except ValueError as error:
            raise ServerIdCounterCorrupt(
                f"{key} holds {current.value!r}, not a decimal server ID",
                hint="write the next free server ID into it, above every ID in use",
            ) from error
        taken = await client.txn(
            [Compare.mod_revision(key, current.mod_revision)], [Put(key, str(server_id + 1).encode())]
        )
        if taken.succeeded:
            return server_id


async def register(
    client: EtcdClient,
    layout: MetaLayout,
    record: SessionRecord,
    *,
    ttl_s: int,
    own_key: bool,
    companions: tuple[str, ...] = (),
) -> Session:
    """Grant the lease and, with `own_key`, put `session/<role>-<serverID>` (and those of companions) on it.

    Without `own_key` (active-standby off) only the ACTIVE key will represent the replica.

    Raises:
        EtcdError: etcd did not answer, or refused; of this registration nothing is left, as far as possible.
    """
    log.info("start server", name=record.server_name, address=record.address, id=record.server_id)
    granted_at = boottime()
    lease = await client.grant(ttl_s)
    leased = record.with_lease(lease.id)
    if own_key:
        puts = [
            Put(layout.session(name, record.server_id), replace(leased, server_name=name).to_json(), lease.id)
            for name in (record.server_name, *companions)
        ]
        await _put_on_lease(client, lease.id, puts)
        log.info("put session key into etcd", key=layout.session(record.server_name, record.server_id))
        log.info("Service registered successfully", ServerName=record.server_name, serverID=record.server_id)
    return Session(leased, lease.id, lease.ttl_s, granted_at)


async def _put_on_lease(client: EtcdClient, lease_id: int, puts: Sequence[Put]) -> None:
    """Put the keys; if that fails, or is cancelled, give the lease back so that nothing of it shows for long.

    A server ID is never given twice, so the keys can only be there if this very transaction was sent before.
    """
    try:
        await client.txn([], puts)
    except BaseException:
        try:
            async with asyncio.timeout(PARTING_TIMEOUT_S):
                await client.revoke(lease_id)
        except (EtcdError, TimeoutError) as error:
            log.debug("could not revoke the lease, it ends by itself", lease=lease_id, reason=str(error))
        raise
