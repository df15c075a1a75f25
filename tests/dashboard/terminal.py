"""A real terminal of a test's own: tmux, its keys, and what stands on its screen."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.helpers import poll, process_gone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
# A start of Python and Textual on a loaded machine with two cores.
DEADLINE = 20.0


def environment(**extra: str) -> dict[str, str]:
    """Return the environment for processes that import this checkout."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "dashboard")])
    variables = {**os.environ, "PYTHONPATH": path, "TZ": "UTC", **extra}
    for name in ("NO_COLOR", "TMUX"):
        if name not in extra:
            variables.pop(name, None)
    return variables


def python(*arguments: str) -> str:
    """Return a command line of this interpreter for the shell."""
    return shlex.join([sys.executable, *arguments])


class Terminal:
    """A tmux server with one window, in which a shell command runs."""

    def __init__(self, socket: Path) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]

    def start(self, command: str, size: tuple[int, int], **variables: str) -> None:
        """Run a command; afterwards the shell tells its exit code and waits."""
        told = f"{command}; echo exit=$? echo=$(stty -a | grep -o -- '-*\\<echo\\>'); exec cat"
        self._run(
            ["new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "sh", "-c", told],
            variables,
        )

    @property
    def text(self) -> str:
        """What stands on the screen."""
        return self._run(["capture-pane", "-p"])

    @property
    def colored(self) -> str:
        """The same with its escape sequences."""
        return self._run(["capture-pane", "-p", "-e"])

    def asked(self, expression: str) -> str:
        """Ask tmux about the window, as `#{cursor_flag}`."""
        return self._run(["display-message", "-p", expression]).strip()

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self._run(["send-keys", *keys])

    def wait_for(self, *texts: str, deadline: float = DEADLINE) -> str:
        """Wait until all these texts stand on the screen, and return it."""
        return poll(
            lambda: text if all(part in (text := self.text) for part in texts) else "",
            deadline=deadline,
            interval=0.05,
            message=lambda: f"{texts} on the screen:\n{self.text}",
        )

    def stop(self) -> None:
        """End the server and the window, and wait for all that ran there to end with them."""
        with contextlib.suppress(subprocess.CalledProcessError):
            server = int(self.asked("#{pid}"))
            running = [process.pid for process in psutil.Process(server).children(recursive=True)]
            self._run(["kill-server"])
            for pid in (server, *running):
                poll(partial(process_gone, pid), message=f"process {pid} of the terminal ends")

    def _run(self, command: Sequence[str], variables: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [*self._tmux, *command],
            capture_output=True,
            text=True,
            check=True,
            timeout=DEADLINE,
            env=environment(**(variables or {})),
        )
        return done.stdout


@contextlib.contextmanager
def opened() -> Iterator[Terminal]:
    """Yield a terminal that is gone afterwards."""
    # Not pytest's directory: a socket's path may have 104 bytes.
    directory = Path(tempfile.mkdtemp(prefix="obspool-tmux-"))
    terminal = Terminal(directory / "s")
    try:
        yield terminal
    finally:
        terminal.stop()
        shutil.rmtree(directory, ignore_errors=True)
