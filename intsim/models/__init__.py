# SPDX-License-Identifier: Apache-2.0
"""Transformer families on integers, one per file, and the integer model they run."""

from intsim.models.integer_model import Format, IntegerModel, Result

__all__ = ["Format", "IntegerModel", "Result"]
