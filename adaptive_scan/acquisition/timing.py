"""What a scan loses beside its dwell times: flyback, and settling after jumps and sharp turns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adaptive_scan.acquisition.exposure import check_range


@dataclass(frozen=True)
class Timing:
    """How long the deflectors need where a path does not simply go on.

    A move of at most `longest_step` is a step: the probe makes it within the dwell time of the position it leads to,
    without loss. A longer move is a jump. One that comes after a step and turns by more than 3 pi / 4 is a flyback, as
    from the end of one line to the beginning of the next. Scans wait after each of them, with the beam blanked. Between
    two steps, a turn sharper than `sharp_turn` is waited for as well.

    The defaults are our choice: settling of five time constants of coils with a lag of 1 µs after a jump and of one
    after a sharp turn, and a flyback in the order of what scan generators wait.

    Attributes:
        flyback: Time lost at each flyback [s], at least 0.
        jump_settling: Time lost at each other jump [s], at least 0.
        turn_settling: Time lost at each sharp turn between steps [s], at least 0.
        longest_step: Longest move that is no jump [px], at least 0.
        sharp_turn: Largest change of direction that costs nothing [rad], in [0, pi].

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> round(Timing.of_lag(2e-6).jump_settling, 9)
        1e-05
    """

    flyback: float = 5e-5
    jump_settling: float = 5e-6
    turn_settling: float = 1e-6
    longest_step: float = 10.0
    sharp_turn: float = math.pi / 4.0

    def __post_init__(self) -> None:
        for name in ("flyback", "jump_settling", "turn_settling"):
            check_range(name, getattr(self, name), 0.0, 1e6)
        check_range("longest_step", self.longest_step, 0.0, math.inf)
        check_range("sharp_turn", self.sharp_turn, 0.0, math.pi)

    @classmethod
    def of_lag(cls, time_constant: float, *, flyback: float = 5e-5) -> Timing:
        """The timing that waits for coils of this lag: five time constants after a jump and one after a sharp turn.

        Args:
            time_constant: Lag of the coils [s], as that of `adaptive_scan.acquisition.CoilLag`.
            flyback: Time lost at each flyback [s].

        Returns:
            The timing.

        Raises:
            ValueError: If a number is out of its range.
        """
        return cls(flyback, 5.0 * time_constant, time_constant)
