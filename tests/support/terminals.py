"""Commands on a terminal of their own."""

import fcntl
import os
import pty
import struct
import subprocess
import termios

from tests.support.service_process import ROOT


def on_terminal(command: list[str], *, columns: int, lines: int) -> tuple[int, str]:
    """Run a command on a terminal of this size. Returns its exit code and all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: text for name, text in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    written = b""
    with subprocess.Popen(  # noqa: S603 - this project's own command
        command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm-256color"}
    ) as process:
        os.close(theirs)
        while data := _read(ours):
            written += data
        process.wait(60.0)
    os.close(ours)
    return process.returncode, written.decode()


def _read(descriptor: int) -> bytes:
    """What is there; nothing once the command has closed its end."""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""
