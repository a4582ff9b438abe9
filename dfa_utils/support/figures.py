"""The figures that a detector's file carries beside its weights: calibration, threshold, bounds of `uncertain`."""

import math


class CheckpointError(ValueError):
    """A detector's file that cannot be used; the message names it and the cure."""


def check_figures(info: dict) -> None:
    """ValueError unless the figures that a verdict depends on are numbers that make sense, as far as they are there."""
    slope, offset = info.get("calibration", (1.0, 0.0))
    low, high = info.get("uncertain") or (0.0, 1.0)
    threshold = info.get("threshold", 0.5)
    if not all(isinstance(x, (int, float)) and math.isfinite(x) for x in (slope, offset, low, high, threshold)):
        raise ValueError("calibration, threshold and bounds of `uncertain` must be finite numbers")
    if low > high:
        raise ValueError(f"the bounds of `uncertain` must be in order, got {low} and {high}")
