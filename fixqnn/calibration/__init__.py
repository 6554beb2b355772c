"""From samples and wishes to formats: calibrate a graph once, choose formats for it as often as you like."""

from __future__ import annotations

from fixqnn.calibration.choose import choose, quantize
from fixqnn.calibration.observe import Calibration, Observation, calibrate
from fixqnn.calibration.policy import Policy

__all__ = ["quantize", "Policy", "calibrate", "choose", "Calibration", "Observation"]
