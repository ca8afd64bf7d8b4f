# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of other people's kernels and chips on integers: a module per project, functions named as theirs."""
