# SPDX-License-Identifier: Apache-2.0
"""The verification kit: hold other people's hardware and kernels against the golden model."""
