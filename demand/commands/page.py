"""The command that serves the seller's page."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from demand.commands.parsers import add_command, whole_number

if TYPE_CHECKING:
    from demand.commands.parsers import Commands


def add_page(commands: Commands) -> None:
    """Add the seller's page."""
    page = add_command(
        commands,
        "ui",
        "the seller's page, which asks the API, until Ctrl-C",
        "demand ui --api http://127.0.0.1:8000 --link ZenML=http://127.0.0.1:8237",
        _page,
    )
    page.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    page.add_argument("--port", type=whole_number(0, 65535), default=7860, help="default: 7860")
    page.add_argument(
        "--api",
        default="http://127.0.0.1:8000",
        metavar="URL",
        help="the Flask API or an MLflow model server (default: http://127.0.0.1:8000); "
        "DEMAND_API_TOKEN is its bearer token",
    )
    page.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a dashboard that the team's tab links to; may be given more than once",
    )
    page.add_argument("--quiet", action="store_true", help="no line a request")


def _page(arguments: argparse.Namespace) -> int:
    from demand.serving.api.settings import TOKEN_VARIABLE
    from demand.serving.page.server import PagePlace, read_links, serve_page

    serve_page(
        PagePlace(
            host=arguments.host,
            port=arguments.port,
            api=arguments.api,
            links=read_links(arguments.link),
            token=os.environ.get(TOKEN_VARIABLE) or None,
            access_log=not arguments.quiet,
        )
    )
    return 0
