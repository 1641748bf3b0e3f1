"""The command line: parses arguments and runs a command; each command has its own file."""

import argparse
import sys

from skrobust import __version__

from . import demo as _demo
from . import warmup as _warmup
from .errors import UsageError
from .interrupts import persistent_interrupts

# To add a command, add its module here. It needs NAME, SUMMARY, add_arguments(parser) and run(arguments).
_COMMANDS = (_demo, _warmup)


def main(argv=None):
    """Run the `skrobust` command.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        Arguments after the command's name; None: those of the process.

    Returns
    -------
    int
        Exit status: 0 for success, 2 for wrong arguments or missing files, 130 if interrupted.
    """
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed its help or error
        return stop.code if isinstance(stop.code, int) else 2
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        with persistent_interrupts():
            return arguments.run(arguments)
    except KeyboardInterrupt:
        print("\nInterrupted: nothing was written.", file=sys.stderr)
        return 130
    except UsageError as error:
        print(f"skrobust {arguments.command}: {error}", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="skrobust",
        description="Sparse coding for robust image classifiers.",
        epilog="skrobust COMMAND --help describes a command.",
    )
    parser.add_argument("--version", action="version", version=f"skrobust {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for command in _COMMANDS:
        sub = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser
