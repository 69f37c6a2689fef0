"""What can go wrong with the message queue.

`retriable` on the class says whether the same message, sent again later, can get through without a change of
settings or message. Clients reconnect by themselves, so nothing else has to be done about a queue that was
away. Whoever sends a message again must be able to live with it being there twice: after every error but
`MessageRefused` it may be in the queue already.

No message holds a user name, a password or the payload.
"""

from coordd.errors import CoorddError


class MessageQueueError(CoorddError):
    """The queue, or the way to it, failed; not one of the causes below."""

    retriable: bool = False


class QueueUnavailable(MessageQueueError):
    """The queue did not confirm the message in time."""

    retriable = True


class QueueAccessDenied(MessageQueueError):
    """The queue does not accept the login, or does not let this user write there."""


class QueueTlsError(MessageQueueError):
    """The two sides do not agree on TLS, or one does not trust the other's certificate."""


class QueueSettingsInvalid(MessageQueueError):
    """The client library does not accept the settings, for instance a file that cannot be read."""


class QueueClientMissing(MessageQueueError):
    """The client library of the queue is not installed."""


class MessageRefused(MessageQueueError):
    """The queue will never take this message (too large, impossible channel name). It is not in the queue."""


class QueueClosed(MessageQueueError):
    """`close` was called."""
