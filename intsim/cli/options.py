# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

import click

__all__ = ["as_json", "quiet", "truncated"]

quiet = click.option("--quiet", is_flag=True, help="No progress bars; there are none unless stderr is a terminal.")
as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object.")
truncated = click.option("--truncate", is_flag=True, help="Shorten texts that are too long; else they are refused.")
