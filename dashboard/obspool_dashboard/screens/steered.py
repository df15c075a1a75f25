"""A screen that steers the pool it shows: which commands make sense now, and the questions first.

A command is for the pool, the worker and the job that are there when its key is pressed: what the
screen shows by the time of the answer doesn't matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.screen import Screen

from obspool.words import PoolState
from obspool_dashboard import questions
from obspool_dashboard.questions import NumberQuestion
from obspool_dashboard.source import Command

if TYPE_CHECKING:
    from obspool.telemetry.registry import PoolEntry
    from obspool.telemetry.snapshot import JobSnapshot
    from obspool_dashboard.app import TopApp
    from obspool_dashboard.frame import Frame
    from obspool_dashboard.questions import Deed, Question

_SENSELESS = {
    PoolState.RUNNING: {Command.RESUME},
    PoolState.PAUSED: {Command.PAUSE},
    PoolState.CLOSING: {Command.CLOSE, Command.RESUME},
}


class SteeredScreen(Screen[None], inherit_bindings=False):
    """Sends commands to the pool of its entry, by the newest reading of it."""

    app: TopApp

    def __init__(self, entry: PoolEntry) -> None:
        super().__init__()
        self.entry = entry
        self.latest: Frame | None = None
        self.failure: Exception | None = None

    def target_slot(self) -> int | None:
        """Return the slot that commands for one worker mean."""
        raise NotImplementedError

    def target_job(self) -> JobSnapshot | None:
        """Return the job in progress that a cancel means."""
        raise NotImplementedError

    @property
    def control_state(self) -> frozenset[Command]:
        """The commands that make sense now."""
        frame = self.latest
        if self.app.read_only or frame is None or frame.ended or self.failure is not None:
            return frozenset()
        if frame.snapshot.facts.control is None:
            return frozenset()
        senseless = set(_SENSELESS.get(frame.snapshot.state, ()))
        if self.target_slot() is None:
            senseless.add(Command.STACK)
        if self.target_job() is None:
            senseless.add(Command.CANCEL)
        return frozenset(Command) - senseless

    @property
    def may_end(self) -> bool:
        """Whether the pool's process doesn't answer, and may be ended by signals from here."""
        frame = self.latest
        if self.app.read_only or frame is None or frame.silent_for is None:
            return False
        return self.failure is None and not self.app.source.may_end(self.entry)

    def action_command(self, verb: str) -> None:
        """Do it or, where there is anything to choose or to lose, ask first."""
        frame = self.latest
        if frame is None:
            return
        snapshot, command = frame.snapshot, Command(verb)
        match command:
            case Command.PAUSE | Command.RESUME:
                resume = command is Command.RESUME
                self.app.do(self.entry, questions.pause(snapshot, resume=resume))
            case Command.STACK:
                slot = self.target_slot()
                if slot is not None:
                    # What opens on a key is imported then: the first frame doesn't wait for it.
                    from obspool_dashboard.screens.stack import StackScreen  # noqa: PLC0415

                    request = questions.stack_of(snapshot, slot)
                    self.app.push_screen(StackScreen(self.entry, request))
            case Command.CANCEL:
                job = self.target_job()
                if job is not None:
                    self._ask(questions.cancel(snapshot, job))
            case Command.RESIZE:
                self._ask(questions.resize(snapshot))
            case Command.SET:
                self._ask(questions.max_tasks(snapshot))
            case Command.RECYCLE:
                self._ask(questions.recycle(snapshot, self.target_slot()))
            case Command.CLOSE:
                self._ask(questions.close(snapshot))
            case Command.TERMINATE:
                self._ask(questions.terminate(frame))

    def action_end(self) -> None:
        """Ask whether the process is to be ended by signals."""
        if self.latest is not None and self.may_end:
            self._ask(questions.end_processes(self.latest))

    def _ask(self, question: Question | NumberQuestion) -> None:
        from obspool_dashboard.screens.confirm import (  # noqa: PLC0415 - as above
            ConfirmScreen,
            NumberScreen,
        )

        entry, app = self.entry, self.app

        def answered(deed: Deed | None) -> None:
            if deed is not None:
                app.do(entry, deed)

        if isinstance(question, NumberQuestion):
            app.push_screen(NumberScreen(question), answered)
        else:
            app.push_screen(ConfirmScreen(question), answered)
