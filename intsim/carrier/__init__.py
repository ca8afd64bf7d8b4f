# SPDX-License-Identifier: Apache-2.0
"""Floats that provably carry integers, blocks and threads: the one room where speed may cost beauty."""
