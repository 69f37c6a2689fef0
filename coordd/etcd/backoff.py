"""Pauses between attempts. Pure but for the random numbers."""

import random
from dataclasses import dataclass, field

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 0.5


@dataclass(slots=True)
class Backoff:
    """Doubling pauses with jitter, from `first_s` to `max_s`."""

    first_s: float = BACKOFF_FIRST_S
    max_s: float = BACKOFF_MAX_S
    _next_s: float = field(init=False, default=0.0)
    # Not for secrets: only so that many clients do not come back in step.
    _random: random.Random = field(init=False, default_factory=random.SystemRandom)

    def reset(self) -> None:
        """The next pause is the first again."""
        self._next_s = 0.0

    def pause_s(self) -> float:
        """How long to wait now, in seconds."""
        self._next_s = min(self.max_s, self._next_s * 2 or self.first_s)
        return self._next_s * self._random.uniform(0.5, 1.0)
