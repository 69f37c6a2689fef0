"""Saying once what goes wrong again and again: a log line per trouble, not per attempt."""


class Trouble:
    """Something that is tried until it succeeds. Failures are alike if their errors have the same type."""

    def __init__(self) -> None:
        self._kind: type[Exception] | None = None

    @property
    def lasting(self) -> bool:
        """Whether the last attempt failed."""
        return self._kind is not None

    def is_news(self, error: Exception) -> bool:
        """Note a failed attempt; True if it failed in another way than the one before."""
        kind, self._kind = self._kind, type(error)
        return kind is not self._kind

    def over(self) -> None:
        """An attempt succeeded: the next failure is news."""
        self._kind = None
