"""How long the phases of a takeover took, for logs, metrics and the log of leadership."""

from dataclasses import dataclass

PHASES = ("detect", "fence", "activate", "serve")
"""In the order in which they are passed."""


@dataclass(slots=True)
class Phases:
    """Moments of a takeover in seconds on CLOCK_BOOTTIME; 0 until reached.

    `last_sign_at`: the last sign of life of the predecessor was received. `evidence_at`: it was known that
    the role may be taken. `won_at`: the ACTIVE key was ours. `activated_at`: the role's state was complete.
    `serving_at`: requests were answered.
    """

    last_sign_at: float = 0.0
    evidence_at: float = 0.0
    won_at: float = 0.0
    activated_at: float = 0.0
    serving_at: float = 0.0

    def durations_s(self) -> dict[str, float]:
        """Length of each phase of `PHASES` that was passed, in seconds."""
        marks = [self.last_sign_at, self.evidence_at, self.won_at, self.activated_at, self.serving_at]
        return {
            name: after - before
            for name, before, after in zip(PHASES, marks, marks[1:], strict=False)
            if before and after
        }
