"""Files that are written whole or not at all, whoever writes to the same path at the same time.

The content goes to a file beside, which takes the place of the old one at the end. Its name cannot
be guessed and it is made anew, so that nobody can have put a link there. While it is written it is
locked: what has no lock was left by a process that died, and is removed by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None

# the end of a name stays, as it says which format is written
PART = re.compile(r"\.[0-9a-f]{24}\.bayesdl-part")
FULL = (errno.ENOSPC, errno.EDQUOT)
CHOOSE = "Choose a folder that exists and can be written"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place beside a path to write to, which becomes the file when the block ends.

    A link is followed: the file that it leads to is replaced, and the link stays. The mode of a
    file that was there is kept. When the block ends, the content is on the disk. Where the path is
    a pipe or a device, it is written to itself.

    Args:
        path: the path of the file.

    Raises:
        OSError: where it cannot be written; then the old file is as it was.
    """
    target = Path(os.path.realpath(path))
    old = _mode_of(target)
    if old is not None and stat.S_ISDIR(old):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if old is not None and not stat.S_ISREG(old):
        yield target
        return
    sweep_parts(target.parent)
    number, place = _make(target, old)
    done = False
    try:
        yield place
        force_to_disk(place)
        if fcntl is None:
            os.close(number)
            number = -1
        os.replace(place, target)
        done = True
    finally:
        if number >= 0:
            os.close(number)
        if not done:
            with contextlib.suppress(OSError):
                place.unlink()
    force_to_disk(target.parent)


def why_not_written(error: Exception, choose: str = CHOOSE) -> str:
    """Return why a file could not be written, and the cure, as two sentences without full stop.

    Args:
        error: the error of the system, or of a library that tells it in words.
        choose: the cure where the place is wrong.
    """
    number = getattr(error, "errno", None)
    text = getattr(error, "strerror", None) or " ".join(str(error).split())
    if number in FULL or "No space left" in text or "disk full" in text.lower():
        return f"the disk is full ({text}). Free some space; what was there before is as it was"
    return f"{text}. {choose}"


def sweep_parts(folder: Path) -> None:
    """Remove what processes that died while they wrote have left in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if PART.match(entry.name)]
        for place in left:
            # one of another user stays
            with contextlib.suppress(OSError):
                _remove_if_dead(place)


def force_to_disk(path: Path) -> None:
    """Wait until a file or the entries of a folder have reached the disk."""
    # Windows forces nothing that is open for reading
    if os.name == "nt":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # some file systems have no way to force entries
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(number)


def _mode_of(path: Path) -> int | None:
    """Return type and mode of a file, or None where there is none."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _make(target: Path, mode: int | None) -> tuple[int, Path]:
    """Make a new file with a name of its own beside another, and lock it.

    Args:
        target: the file that it will replace.
        mode: the mode of that file, or None where there is none.

    Returns:
        The number of the open file, and its path.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    while True:
        place = target.with_name(f".{secrets.token_hex(12)}.bayesdl-part{target.suffix}")
        # a file that others may not read is never one that they may
        number = os.open(place, flags, 0o666 if mode is None else 0o600)
        if fcntl is None:
            return number, place
        if mode is not None:
            os.fchmod(number, stat.S_IMODE(mode))
        # whoever found it without a lock has removed it, or is about to
        if _lock(number) and os.fstat(number).st_nlink:
            return number, place
        os.close(number)


def _lock(number: int) -> bool:
    """Lock an open file, and return whether nobody else has; some file systems have no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _remove_if_dead(place: Path) -> None:
    """Remove a file that no process has locked."""
    if fcntl is None:
        place.unlink()
        return
    number = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        place.unlink()
    finally:
        os.close(number)
