# SPDX-License-Identifier: Apache-2.0
"""``python -m intsim``: the command line."""

from intsim.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
