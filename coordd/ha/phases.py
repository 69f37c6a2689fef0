"""How long the phases of a takeover took, for logs and metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class Phases:
    """Moments of a takeover in seconds on CLOCK_BOOTTIME; 0 until reached."""

    observed_free_at: float = 0.0
    won_at: float = 0.0
    activated_at: float = 0.0
    serving_at: float = 0.0

    def durations_s(self) -> dict[str, float]:
        """Length of each phase that was passed, in seconds: fence, activate, serve."""
        marks = [self.observed_free_at, self.won_at, self.activated_at, self.serving_at]
        names = ["fence", "activate", "serve"]
        return {
            name: after - before
            for name, before, after in zip(names, marks, marks[1:], strict=False)
            if before and after
        }
