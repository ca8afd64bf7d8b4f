# SPDX-License-Identifier: Apache-2.0
"""The errors a user's input can cause."""

__all__ = ["CheckpointError", "IntsimError"]


class IntsimError(Exception):
    """Invalid input.

    The message is one clear sentence; the command line prints it and exits with status 3.
    """


class CheckpointError(IntsimError):
    """A checkpoint that cannot be read, is not valid or is not supported."""
