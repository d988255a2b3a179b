"""The command line `bayesdl`: fit, predict, check, impute, outliers, recommend, demo.

This file holds what is set before JAX starts, and how errors are shown: one line on stderr and
exit code 2. The parser stands in `bayesdl.cli.parser`, what the commands do in
`bayesdl.cli.commands`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bayesdl.cli.parser import parser

MAX_DEVICES = 4  # as many as a default run has chains


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `bayesdl`; those of the process by default.

    Returns:
        The exit code: 0, 1 for a fit not to be trusted, 2 for an error, 130 for Ctrl-C.
    """
    if not (sys.argv[1:] if argv is None else argv):
        # somebody who does not know yet what there is
        parser().print_help()
        return 0
    try:
        options = parser().parse_args(argv)
    except SystemExit as stop:  # raised by --help, --version and errors of usage
        return int(stop.code or 0)
    # what stops a service keeps what an engine has so far, as Ctrl-C does
    alone = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if alone else None
    try:
        return run(options)
    except KeyboardInterrupt:
        print("bayesdl: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        if alone:
            signal.signal(signal.SIGTERM, before)


def run(options: argparse.Namespace) -> int:
    """Run a command; an error that the user can cure is shown in one line."""
    prepare_jax()
    from bayesdl.cli import commands
    from bayesdl.cli.tables import lines_of
    from bayesdl.cli.words import in_shell_words

    def say(message: object) -> str:
        return " ".join(in_shell_words(str(message), lines_of(options)).split())

    try:
        with _short_warnings(say):
            code = getattr(commands, options.command)(options)
        sys.stdout.flush()
        return code
    except commands.USER_ERRORS as error:
        print(f"bayesdl: error: {say(error)}", file=sys.stderr)
        return 2


def prepare_jax() -> None:
    """Give JAX a device for each core, so that chains run side by side, and a cache of programs.

    Settings that the user has made come first.
    """
    flag = "--xla_force_host_platform_device_count"
    flags = os.environ.get("XLA_FLAGS", "")
    if flag not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}={min(cores(), MAX_DEVICES)}".strip()
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bayesdl" / "jax"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(cache, os.W_OK):
        import jax

        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _short_warnings(say: Callable[[object], str]) -> Iterator[None]:
    """Show each warning as one line.

    Args:
        say: what puts a message into the words of the shell.
    """

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"bayesdl: warning: {say(message)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


if __name__ == "__main__":
    sys.exit(main())
