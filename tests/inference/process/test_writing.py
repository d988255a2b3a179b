"""Files are written whole or not at all: threads, links, modes, what dead processes left."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inference.process.writing import whole_file, why_not_written


def write(path, text):
    with whole_file(path) as beside:
        beside.write_text(text)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_threads_that_write_to_one_path_leave_one_of_the_files(tmp_path):
    path, seen = tmp_path / "a", []

    def work(letter):
        for _ in range(20):
            write(path, letter * 10_000)
            seen.append(path.read_text())

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 80 and all(len(text) == 10_000 == text.count(text[0]) for text in seen)
    assert names(tmp_path) == ["a"]


def test_a_file_that_is_swept_between_its_making_and_its_lock_is_made_anew(tmp_path, monkeypatch):
    flock, swept = fcntl.flock, []

    def lock_after_a_sweeper(number, how):
        if not swept:
            swept.extend(tmp_path.iterdir())
            sweeper = os.open(swept[0], os.O_RDONLY)
            flock(sweeper, how)
            try:
                flock(number, how)
            finally:
                monkeypatch.setattr(fcntl, "flock", flock)
                remove_when_closed.append(sweeper)

    remove_when_closed = []
    monkeypatch.setattr(fcntl, "flock", lock_after_a_sweeper)
    with whole_file(tmp_path / "a") as beside:
        swept[0].unlink()
        os.close(remove_when_closed[0])
        beside.write_text("whole")
    assert beside != swept[0] and (tmp_path / "a").read_text() == "whole"


def test_an_error_leaves_the_file_of_before(tmp_path):
    write(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as beside:
        beside.write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_text() == "old" and names(tmp_path) == ["a"]


def test_the_mode_of_a_file_stays_and_nobody_else_reads_what_is_written(tmp_path):
    path = tmp_path / "a"
    write(path, "old")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    for mode in (0o600, 0o640, 0o666):
        path.chmod(mode)
        with whole_file(path) as beside:
            assert stat.S_IMODE(beside.stat().st_mode) == mode
            beside.write_text("new")
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_stays_and_leads_to_what_was_written(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "a")
    write(tmp_path / "link", "first")
    write(tmp_path / "link", "second")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "a").read_text() == "second"
    assert names(tmp_path / "folder") == ["a"]


def test_the_name_beside_is_another_each_time_and_keeps_its_ending(tmp_path):
    seen = set()
    for _ in range(3):
        with whole_file(tmp_path / "a.parquet") as beside:
            assert beside.suffix == ".parquet" and len(beside.name) > 24
            beside.write_text("")
            seen.add(beside)
    assert len(seen) == 3


def test_what_a_killed_process_left_is_swept_and_what_is_written_now_is_not(tmp_path):
    code = (
        "import sys, time, pathlib; from inference.process.writing import whole_file\n"
        f"with whole_file(pathlib.Path({str(tmp_path / 'a')!r})) as beside:\n"
        "    beside.write_text('half'); print('ready', flush=True); time.sleep(100)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    write(tmp_path / "b", "whole")
    assert len(names(tmp_path)) == 2
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (tmp_path / ".mine").write_text("")
    write(tmp_path / "b", "whole")
    assert names(tmp_path) == [".mine", "b"]


def test_a_device_is_written_to_and_a_folder_is_refused(tmp_path):
    with whole_file(Path(os.devnull)) as beside:
        assert beside == Path(os.devnull)
    with pytest.raises(IsADirectoryError), whole_file(tmp_path):
        pass
    with pytest.raises(OSError), whole_file(tmp_path / "none" / "a"):
        pass


def test_a_full_disk_is_called_full():
    assert why_not_written(OSError(errno.ENOSPC, "x")).startswith("the disk is full (x). Free some")
    assert "disk is full" in why_not_written(ValueError("No space left on device (os error 28)"))
    found = why_not_written(PermissionError(errno.EACCES, "Permission denied"))
    assert found == "Permission denied. Choose a folder that exists and can be written"
