"""A program under the watchdog without a replica in it: `python -m tests.support.watched WHAT ...`.

Prints `pid N hangs N` from its event loop, then does what each argument says, in order:

- `stuck`: blocks the event loop for good
- `stuck-once`: the same, unless a predecessor has been killed for it
- `busy N`: N pieces of work, each of a third of the time-out in processor time
- `exit N`: ends with the exit code
- `wait`: goes on until SIGTERM, SIGINT, SIGHUP, SIGQUIT or SIGUSR1, then ends with 40 + the signal's number
- `linger`: as `wait`, but does not end after its loop has
"""

import asyncio
import os
import signal
import sys
import threading
import time

from coordd.supervisor import ParentLink, supervise

TIMEOUT_MS = 400


async def _main(link: ParentLink, arguments: list[str]) -> int:
    loop = asyncio.get_running_loop()
    got: asyncio.Future[int] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        loop.add_signal_handler(number, lambda n=number: got.done() or got.set_result(n))
    link.watch(loop, enabled=True, timeout_ms=TIMEOUT_MS, json_lines=False)
    link.status(f"up after {link.hangs}", ready=True)
    print(f"pid {os.getpid()} hangs {link.hangs}", flush=True)
    words = iter(arguments)
    for word in words:
        match word:
            case "stuck":
                time.sleep(3600)  # noqa: ASYNC251 - that is the point
            case "stuck-once" if link.hangs == 0:
                time.sleep(3600)  # noqa: ASYNC251
            case "busy":
                for _ in range(int(next(words))):
                    _work(TIMEOUT_MS / 1000 / 3)
                    await asyncio.sleep(0)
            case "exit":
                return int(next(words))
            case "wait" | "linger":
                number = await got
                link.stopping()
                if word == "linger":
                    threading.Thread(target=time.sleep, args=(3600,)).start()
                return 40 + number
    return 0


def _work(cpu_s: float) -> None:
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


if __name__ == "__main__":
    parent = supervise()
    code = asyncio.run(_main(parent, sys.argv[1:]))
    parent.close()
    sys.exit(code)
