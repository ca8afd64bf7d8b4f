# SPDX-License-Identifier: Apache-2.0
"""The embedded models on integers: a small BERT that judges films, and in stories/ a small LLaMA that tells stories."""
