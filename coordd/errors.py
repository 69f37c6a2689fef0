"""The root of coordd's errors.

Every package derives its own errors from `CoorddError`. A message says what happened and names the key,
field or address concerned; the hint says what to do about it. Errors of a third-party library are
translated once, at the edge that calls the library.
"""


class CoorddError(Exception):
    """An expected failure that a person can act on.

    `hint` is one sentence that says what to do; it is part of `str(error)`.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"
