"""Pauses between attempts. Pure but for the random numbers."""

import random
from dataclasses import dataclass, field

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 0.5


@dataclass(slots=True)
class Backoff:
    """Doubling pauses with jitter, from `first_s` to `max_s`. To make one costs next to nothing."""

    first_s: float = BACKOFF_FIRST_S
    max_s: float = BACKOFF_MAX_S
    _next_s: float = field(init=False, default=0.0)

    def reset(self) -> None:
        """The next pause is the first again."""
        self._next_s = 0.0

    def pause_s(self) -> float:
        """How long to wait now, in seconds."""
        self._next_s = min(self.max_s, self._next_s * 2 or self.first_s)
        # Not for secrets: only so that many clients do not come back in step.
        return self._next_s * random.SystemRandom().uniform(0.5, 1.0)
