"""Crash evidence about the active replica of a role: what shows that its process is gone.

Where its session record says that it runs on this very machine (same host, boot and pid namespace) the
kernel is asked (`process_exit`), else a connection to its port is held (`held_connection`). What counts and
what does not is decided in `evidence`.

It does not notice a process that hangs, or a machine or network that went silent: the heartbeat is for those.
"""

import asyncio

from coordd.config.coordinators import split_address
from coordd.ha.evidence import Evidence, same_machine
from coordd.ha.held_connection import wait_refused
from coordd.ha.process_exit import wait_exited
from coordd.ha.session import LocalIdentity, SessionRecord
from coordd.ha.trouble import Trouble
from coordd.log import get_logger

log = get_logger("coordd.ha.detector")

RETRY_S = 1.0
"""Between attempts that end with an error nobody foresaw."""


async def wait_gone(record: SessionRecord, us: LocalIdentity) -> Evidence:
    """Wait for evidence that the process behind an ACTIVE key's `record` is gone.

    To be started once per holder, as soon as it holds the key: a crash is noticed from another machine only
    if a connection was established before. Meant for records with `safety`; others have promised nothing.

    Runs until it has evidence or is cancelled, and raises nothing; no descriptor stays open after either.
    """
    trouble = Trouble()
    while True:
        try:
            return await _wait_gone(record, us)
        except Exception as error:
            if trouble.is_news(error):
                log.exception("watching the active replica failed", address=record.address)
        await asyncio.sleep(RETRY_S)


async def _wait_gone(record: SessionRecord, us: LocalIdentity) -> Evidence:
    if record.safety is not None and same_machine(record, us):
        exited = await wait_exited(record.safety.pid, record.safety.start_ticks)
        if exited is not None:
            return exited
    host, port = split_address(record.address)
    port = port or 0
    if not host or not 0 < port < 1 << 16:
        log.warning("the active replica's address is not host:port", address=record.address)
        await asyncio.Event().wait()  # for ever
    return await wait_refused(host, port)
