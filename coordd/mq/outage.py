"""One line when the message queue cannot be used, one when it can again."""

from coordd.log import get_logger

log = get_logger("coordd.mq")


class Outage:
    """Logs changes, not repetition. `queue` and `address` go into every line."""

    def __init__(self, queue: str, address: str) -> None:
        self._log = log.bind(queue=queue, address=address)
        self._kind = ""

    def seen(self, kind: str, reason: str) -> None:
        """The queue cannot be used; `kind` tells one cause from another."""
        if kind != self._kind:
            self._kind = kind
            self._log.warning("the message queue cannot be used", reason=reason)

    def over(self) -> None:
        """A message got through."""
        if self._kind:
            self._kind = ""
            self._log.info("the message queue can be used again")
