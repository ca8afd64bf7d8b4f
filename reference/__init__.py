# SPDX-License-Identifier: Apache-2.0
"""Float twins of intsim's operators and models, under the same names. Nothing here imports intsim."""
