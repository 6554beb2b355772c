"""The command line: one thin function per verb. All work is done by the functions of the library.

Exit status 0: done, or equal; 1: compared and found different; 2: refused, with one message on standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from fixqnn import __version__
from fixqnn.cli import reporting, searching, simulation, sweeping, universal
from fixqnn.errors import FixqnnError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fixqnn")
def cli() -> None:
    """Compute, bit for bit, what an integer accelerator computes for a network trained in torch."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every refusal is one message and exit status 2, never a traceback."""
    try:
        status = cli.main(args=arguments, prog_name="fixqnn", standalone_mode=False)
    except click.exceptions.Exit as done:
        status = done.exit_code
    except click.ClickException as problem:
        problem.show()
        status = 2
    except (FixqnnError, OSError) as problem:
        click.echo(f"fixqnn: {problem}", err=True)
        status = 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("fixqnn: interrupted", err=True)
        status = 130
    except Exception as problem:
        if os.environ.get("FIXQNN_DEBUG"):
            raise
        kind = type(problem).__name__
        click.echo(f"fixqnn: unexpected {kind}: {problem}; please report it: FIXQNN_DEBUG=1 shows where", err=True)
        status = 2
    sys.exit(status if isinstance(status, int) else 0)


for verb in (
    simulation.demo,
    simulation.inspect,
    simulation.run,
    simulation.compare,
    sweeping.sweep,
    searching.search,
    reporting.report,
    universal.universal,
    simulation.machines,
    simulation.warmup,
):
    cli.add_command(verb)
