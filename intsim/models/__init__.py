# SPDX-License-Identifier: Apache-2.0
"""Transformer families, one per file, and the worlds that give them a meaning."""

from intsim.models.families import FAMILIES
from intsim.models.formats import Dynamic, Format

__all__ = ["FAMILIES", "Dynamic", "Format"]
