# SPDX-License-Identifier: Apache-2.0
"""The embedded model: a small BERT sentiment classifier on integers."""
