"""A process that has TensorFlow imported, and forks a child for each command: a test need not wait four seconds for it.

The children are processes like any other: their own descriptors, directory, environment and exit status. What is about
the start of Python itself, or about signals, starts a Python of its own.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_LENGTH = 8  # bytes of the number before each message
_PRELOADED = ("tensorflow", "keras", "ale_py", "gymnasium", "matplotlib.figure", "envs", "rlab.policies.policy")


class ForkServer:
    """The side of the tests."""

    def __init__(self, root: Path) -> None:
        self._socket, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "2"},
            stderr=subprocess.DEVNULL,  # TensorFlow's greetings
        )
        theirs.close()

    def run(self, arguments: list[str], cwd: Path, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess:
        """`python -m launch ARGUMENTS` in a child; its output as text. Raises TimeoutExpired, with the child killed."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as nothing:
            request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": env}).encode()
            socket.send_fds(
                self._socket, [len(request).to_bytes(_LENGTH)], [file.fileno() for file in (nothing, out, err)]
            )
            self._socket.sendall(request)
            self._socket.settimeout(timeout)
            pid = _receive(self._socket)
            try:
                status = _receive(self._socket)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._socket.settimeout(None)
                _receive(self._socket)
                raise subprocess.TimeoutExpired(arguments, timeout) from None
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(arguments, status, *texts)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def _receive(channel: socket.socket) -> Any:
    length = int.from_bytes(_exactly(channel, _LENGTH))
    return json.loads(_exactly(channel, length))


def _exactly(channel: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        part = channel.recv(length - len(found))
        if not part:
            raise EOFError("the fork server has gone")
        found += part
    return found


def _send(channel: socket.socket, message: Any) -> None:
    content = json.dumps(message).encode()
    channel.sendall(len(content).to_bytes(_LENGTH) + content)


def _serve(channel: socket.socket) -> list[str]:
    """Fork until the tests are over; returns the arguments of its command in each child."""
    while True:
        length, descriptors, _, _ = socket.recv_fds(channel, _LENGTH, 3)
        if not length:
            sys.exit()
        request = json.loads(_exactly(channel, int.from_bytes(length)))
        pid = os.fork()
        if not pid:
            for target, descriptor in enumerate(descriptors):
                os.dup2(descriptor, target)
                os.close(descriptor)
            channel.close()
            os.environ.clear()
            os.environ.update(request["env"])
            os.chdir(request["cwd"])
            return request["arguments"]
        for descriptor in descriptors:
            os.close(descriptor)
        _send(channel, pid)
        _send(channel, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    for name in _PRELOADED:
        __import__(name)
    sys.argv = ["launch", *_serve(socket.socket(fileno=int(sys.argv[1])))]
    runpy.run_module("launch", run_name="__main__", alter_sys=False)
