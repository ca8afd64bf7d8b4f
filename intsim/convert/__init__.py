# SPDX-License-Identifier: Apache-2.0
"""The compile step: a float checkpoint, a recipe and calibration text become an integer model."""

from intsim.convert.quantize import default_calibration, default_running_text, quantize, quantize_each
from intsim.convert.simulate import simulation

__all__ = ["default_calibration", "default_running_text", "quantize", "quantize_each", "simulation"]
