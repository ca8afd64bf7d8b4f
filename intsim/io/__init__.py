# SPDX-License-Identifier: Apache-2.0
"""Files: Hugging Face checkpoints, tokenizers, integer checkpoints, traces."""
