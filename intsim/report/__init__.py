# SPDX-License-Identifier: Apache-2.0
"""What an integer model is worth: scores, reports, where its errors arise, and what is in its files."""
