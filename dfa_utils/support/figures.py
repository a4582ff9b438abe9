"""The figures that a file carries beside its weights: calibration, threshold, bounds of `uncertain`, limit."""

import math


class CheckpointError(ValueError):
    """A detector's file that cannot be used; the message names it and the cure."""


def check_figures(info: dict) -> None:
    """ValueError unless the figures that a verdict depends on are numbers that make sense, as far as they are there."""
    slope, offset = info.get("calibration", (1.0, 0.0))
    low, high = info.get("uncertain") or (0.0, 1.0)
    figures = slope, offset, low, high, info.get("threshold", 0.5), info.get("limit", 0.0)
    if not all(isinstance(x, (int, float)) and math.isfinite(x) for x in figures):
        raise ValueError("calibration, threshold, limit and bounds of `uncertain` must be finite numbers")
    if low > high:
        raise ValueError(f"the bounds of `uncertain` must be in order, got {low} and {high}")
