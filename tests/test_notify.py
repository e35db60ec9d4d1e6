import io
import os
import sys
import time

import pytest

from rlab import quiet
from rlab.notify import Unfailing, notify, waiting


def _broken_pipe():
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


def _full_disk():
    return open("/dev/full", "w")


def _closed():
    file = open(os.devnull, "w")  # noqa: SIM115
    file.close()
    return file


@pytest.mark.parametrize("make", [_broken_pipe, _full_disk, _closed, lambda: None])
def test_a_line_that_cannot_be_written_is_no_fault(make, monkeypatch):
    stream = make()
    guarded = Unfailing(stream)
    guarded.write("a line\n")
    guarded.flush()
    assert guarded.failure is not None
    assert not guarded.isatty()
    monkeypatch.setattr(sys, "stderr", stream)
    notify("a line")
    monkeypatch.undo()
    if stream and not stream.closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for what it still has in its buffer
        stream.close()


def test_signs_that_a_console_lacks_are_replaced(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, "cp1252"))
    notify("γ = 0.9 ± 0.1")
    assert raw.getvalue().decode("cp1252") == "? = 0.9 ± 0.1\n"


def test_a_long_wait_is_not_silent(capsys):
    with waiting("filming", every=0.02):
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line == "filming ... 0 s" for line in lines)


def test_only_greetings_are_left_out(capfd):
    with quiet.without_greetings():
        os.write(2, b"I0000 00:00:1.5 1157 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"E0000 00:00:1.5 1157 cuda_platform.cc:52] failed call to cuInit\nE0000 out of memory\n")
        print("a warning", file=sys.stderr)
    assert sorted(capfd.readouterr().err.splitlines()) == ["E0000 out of memory", "a warning"]
