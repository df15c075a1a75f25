"""The engine of local processes: a socketpair for each worker, one selector, and who starts them.

scheduler thread                    starter thread or template         worker process
    poll() ─────── fork, of a few ─────────────────────────────────────> main()
    poll() ─────── orders ────────────> template: fork ────────────────> main()
    start() ────── request ───────────> starter: spawn ────────────────> main()
    poll() <───── Started, wake ────────────┘                               │
    send() ─ Sender ── channel (non-blocking here) ────────────────────────>│ (blocking there)
    poll() <─ FrameReader ── channel ───────────────────────────────────────┘
    revoke() ── the bank's words, under the worker's own claim lock
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from typing import TYPE_CHECKING, Any

from obspool import _fork, serial, wire
from obspool.engines.forking import AVAILABLE, is_known
from obspool.engines.line import ChannelLine
from obspool.engines.maker import LocalWorker, Maker
from obspool.engines.oom import OomKills
from obspool.engines.protocol import (
    CounterNamed,
    Event,
    Exited,
    HookFailed,
    Leaving,
    Line,
    Plan,
    Ready,
    Results,
    Revoked,
    Started,
    StartFailed,
    WorkerId,
)
from obspool.engines.stacks import Stacks
from obspool.engines.starter import Starter, exit_code, reap
from obspool.engines.template import MANY, Template
from obspool.engines.waker import Waker
from obspool.errors import StackUnavailableError
from obspool.functions import Functions
from obspool.memory import resident_bytes
from obspool.messages import INTERRUPT

if TYPE_CHECKING:
    from obspool.engines.sampler import Sampler
    from obspool.messages import Batch


# A sentinel isn't seen while a grandchild holds its other end: so exit codes are asked for too.
_LOOK_EVERY = 0.5

# Workers that were kept from starting are let go when nothing has happened for so long,
# or after so long a wait (seconds): a first call goes first.
_BREATH = 0.001
_LONG_ENOUGH = 0.01

# From so many workers at once on, a template forks them. With fewer its own fork costs more than it
# saves.
_ENOUGH = 8


class ProcessEngine:
    """Workers that are processes of this host."""

    name = "processes"
    killable = True
    pickles = True

    def __init__(self, plan: Plan, name: str) -> None:
        """Make an engine without workers; `name` is for its threads."""
        self.start_method: str = plan.context.get_start_method()
        self._stacks = Stacks(self.start_method)
        self._plan = plan = replace(plan, stacks=self._stacks.file)
        # No methods of its own for this, nor for `encode`: one more call for each item.
        self.encode_function = Functions(self.start_method).encode
        self._workers: dict[WorkerId, LocalWorker] = {}
        self._made: deque[LocalWorker | StartFailed] = deque()
        self._ready_events: list[Event] = []
        self._returned: list[LocalWorker] = []  # that had ended while they were lent
        self._maker = Maker(plan)
        self._forks = plan.make_process is ForkProcess
        self._wanted: deque[WorkerId] = deque()
        self._template: Template | None = None
        self._may_have_template = AVAILABLE
        self._closed = False
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waker.fileno(), selectors.EVENT_READ, None)
        self._sampler: Sampler | None = None
        self._oom_kills: OomKills | None = None  # not yet: starting workers come first
        self._looked_at = time.monotonic()
        _fork.register(self)
        self._starter = Starter(f"obspool-starter-{name}", self._make, self._sample)

    # -- what the scheduler asks for

    def start(self, worker: WorkerId) -> None:
        """Have the process made: by the next `poll` or, where that could wait, the starter thread.

        A fork stops all of this process's threads anyway, whichever does it. Spawn and forkserver
        pickle, which runs the user's code, and so does a `Process` that a subclass overrides.
        """
        if self._forks:
            self._wanted.append(worker)
        else:
            self._starter.request(worker)

    def open(self) -> None:
        """Fork the first workers: a template would be one fork more."""
        while self._wanted:
            ids = [self._wanted.popleft() for _ in range(min(len(self._wanted), MANY))]
            self._made += self._maker.make(ids)

    def send(self, worker: WorkerId, batch: Batch) -> None:
        """Write the batch to the channel, as far as it takes it now."""
        known = self._workers.get(worker)
        if known is not None:
            self._write(known, wire.batch_frame(batch))

    def lend(self, worker: WorkerId) -> Line | None:
        """Return the channel, if it is there and empty."""
        known = self._workers[worker]
        if not known.open or known.sender or known.gone:
            return None
        known.lent = True
        self._selector.unregister(known.channel)
        return ChannelLine(known.channel)

    def reclaim(self, worker: WorkerId, read: list[bytes]) -> None:
        """Listen to the channel again, and take what a caller has read of it."""
        known = self._workers.get(worker)
        if known is None:
            return
        known.lent = False
        self._selector.register(known.channel, selectors.EVENT_READ, known)
        self._take_frames(known, known.reader.feed(read), self._ready_events)
        if known.gone:
            self._returned.append(known)

    def stop(self, worker: WorkerId) -> None:
        """Queue the word to stop behind the worker's batches."""
        self._write(self._workers[worker], wire.plain_frame(wire.Frame.STOP))

    def revoke(self, worker: WorkerId, first: int, until: int, *, exact: bool) -> None:
        """Take items back in shared memory: the answer is known at once."""
        start = self._workers[worker].claims.revoke(first, until, exact=exact)
        if start is not None and start < until:
            self._ready_events.append(Revoked(worker, start, until))

    def interrupt(self, worker: WorkerId, first: int, until: int) -> None:
        """Say which items in shared memory, and have the worker look."""
        known = self._workers.get(worker)
        if known is not None and known.process.pid is not None:
            known.claims.cancel(first, until)
            with suppress(OSError):  # it is gone: its end is on its way
                os.kill(known.process.pid, INTERRUPT)

    def kill(self, worker: WorkerId, *, hard: bool) -> None:
        """Send SIGTERM or SIGKILL."""
        known = self._workers.get(worker)
        if known is None:
            self._want_no_more(worker)
            return
        with suppress(OSError):  # it is gone already: its end is on its way
            if hard:
                known.process.kill()
            else:
                known.process.terminate()

    def begun(self, worker: WorkerId) -> int:
        """Look at the claims in shared memory."""
        known = self._workers.get(worker)
        return 0 if known is None else known.claims.begun()

    def memory(self, worker: WorkerId) -> int:
        """Ask the kernel how much memory a worker has now."""
        known = self._workers.get(worker)
        return 0 if known is None else resident_bytes(known.process.pid)

    def stack(self, worker: WorkerId) -> str:
        """Ask the process itself, by a signal."""
        known = self._workers.get(worker)
        if known is None:
            raise StackUnavailableError(
                f"no stack of the worker in slot {worker.slot}: it has no process now; try again"
            )
        process = known.process

        def is_there() -> bool:
            if self._workers.get(worker) is not known:
                return False
            # One that has closed its channel may have closed the file too, and opened another one.
            return known.open and not wait([process.sentinel], 0)

        return self._stacks.ask(
            f"the worker in slot {worker.slot} (pid {process.pid})", process.pid, is_there
        )

    def _want_no_more(self, worker: WorkerId) -> None:
        """Drop a worker that is yet to be forked."""
        wanted = worker in self._wanted
        if wanted:
            self._wanted.remove(worker)
        if wanted or (self._template is not None and self._template.drop(worker)):
            self._ready_events.append(Exited(worker, None, 0))

    def wake(self) -> None:
        """Have `poll` return."""
        self._waker.wake()

    def poll(self, timeout: float | None) -> list[Event]:
        """Fork, read and write channels, and see who is gone."""
        if self._wanted:
            self._fork_wanted()
        events, self._ready_events = self._ready_events, []
        if events or self._made or self._wanted or self._returned:
            timeout = 0
        elif timeout is None or timeout > _LOOK_EVERY:
            timeout = _LOOK_EVERY
        selected = self._select(timeout)
        ended: list[LocalWorker] = []
        if not selected:
            self._waker.clear()  # should a wake have been interrupted half-way
        for key, mask in selected:
            worker = key.data
            if worker is None:
                self._waker.clear()
            elif worker is self._template:
                ended += self._hear(self._template)
            elif isinstance(worker, LocalWorker):
                if mask & selectors.EVENT_WRITE:
                    self._write(worker, ())
                if mask & selectors.EVENT_READ:
                    self._read(worker, events)
            elif self._template is not None and self._template.will_tell(worker[0]):
                self._unwatch(worker[0])
            else:
                ended.append(worker[0])
        if time.monotonic() - self._looked_at >= _LOOK_EVERY:
            ended += self._look()
        while self._made:
            self._take(self._made.popleft(), events)
        while self._returned:
            ended.append(self._returned.pop())
        for worker in ended:
            if worker.lent:
                worker.gone = True
                self._unwatch(worker)
                events.append(Leaving(worker.id))
            else:
                self._bury(worker, events)
        return events

    def _select(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait; workers that were kept from starting don't wait for long."""
        maker = self._maker
        if maker.gate is None:
            return self._selector.select(timeout)
        selected = self._selector.select(min(timeout, _BREATH))
        quiet = timeout and not selected
        if quiet or time.monotonic() - maker.gated_at > _LONG_ENOUGH:
            maker.release()
        return selected

    def _look(self) -> list[LocalWorker]:
        """Do what is to be done now and then; return workers that have ended."""
        self._looked_at = time.monotonic()
        self._maker.tidy()
        if self._oom_kills is None:
            self._oom_kills = OomKills()
        self._oom_kills.look()
        with suppress(RuntimeError):  # no thread is to be had now: they are looked at later
            self._starter.start()
        if self._template is not None and self._template.is_overdue():
            self._lose(self._template)
        return [w for w in self._workers.values() if exit_code(w.process) is not None]

    def close(self) -> None:
        """Close what is left; workers that could not be ended die with their lifelines."""
        for worker in list(self._workers.values()):
            self._forget(worker)
        self._closed = True
        self._maker.release()
        self._maker.tidy()
        self._close_made()
        if self._template is not None:
            self._template.close()
        self._starter.close()
        self._selector.close()
        self._waker.close()
        self._stacks.close()
        _fork.unregister(self)

    def _close_made(self) -> None:
        """Close what was made too late; from any thread."""
        with suppress(IndexError):
            while True:
                worker = self._made.popleft()
                if isinstance(worker, LocalWorker):
                    worker.close()

    # -- encoding

    @property
    def troubles(self) -> int:
        """How often looking at workers failed."""
        return self._starter.troubles

    encode = staticmethod(serial.dumps)
    decode = staticmethod(serial.loads)
    size = staticmethod(serial.size_of)

    # -- the starter's thread

    def _make(self, worker_id: WorkerId) -> None:
        self._made += self._maker.make([worker_id])
        if self._closed:
            self._close_made()
        if not self._starter.waiting():  # else the next one wakes: each turn of the GIL costs
            self._waker.wake()

    def _sample(self) -> None:
        if self._sampler is None:
            from obspool.engines.sampler import Sampler  # noqa: PLC0415 - psutil, not in short pools

            self._sampler = Sampler(self._plan.segment)
        self._sampler.sample({w.id: w.process.pid for w in list(self._workers.values())})

    # -- the scheduler's thread

    def _fork_wanted(self) -> None:
        """Fork what is wanted, but not all of very many: there may be something else to do."""
        ids = [self._wanted.popleft() for _ in range(min(len(self._wanted), MANY))]
        self._made += self._maker.make(ids, self._template_for(ids))

    def _template_for(self, ids: list[WorkerId]) -> Template | None:
        """Return the template where it pays: it costs as much as a worker."""
        pays = len(self._wanted) + len(ids) >= _ENOUGH or any(id_.generation > 1 for id_ in ids)
        if self._template is None and self._may_have_template and pays:
            try:
                template = Template(self._plan)
            except Exception:  # noqa: BLE001 - not for its sake will a pool fail
                self._may_have_template = False
            else:
                self._template = template
                self._selector.register(template, selectors.EVENT_READ, template)
        return self._template

    def _hear(self, template: Template) -> list[LocalWorker]:
        """Take what the template has made; return the workers of its that ended."""
        news = template.hear()
        self._made += news.made
        self._made += self._maker.make(news.failed)  # what is wrong is told, if that fails too
        if template.gone:
            self._lose(template)
        return news.ended

    def _lose(self, template: Template) -> None:
        """Go on without the template: somebody killed or stopped it."""
        self._selector.unregister(template)
        self._template, self._may_have_template = None, False
        self._wanted += template.asked
        for worker in template.forked.values():
            self._watch(worker)
        template.close()

    def _take(self, made: LocalWorker | StartFailed, events: list[Event]) -> None:
        if isinstance(made, StartFailed):
            events.append(made)
            return
        self._workers[made.id] = made
        self._selector.register(made.channel, selectors.EVENT_READ, made)
        self._watch(made)
        events.append(Started(made.id, made.process.pid, made.process))

    def _watch(self, worker: LocalWorker) -> None:
        if not worker.watched:
            worker.watched = True
            self._selector.register(worker.process.sentinel, selectors.EVENT_READ, (worker,))

    def _unwatch(self, worker: LocalWorker) -> None:
        if worker.watched:
            worker.watched = False
            self._selector.unregister(worker.process.sentinel)

    def _write(self, worker: LocalWorker, parts: Any) -> None:
        if not worker.open:
            return
        worker.sender.add(parts)
        with suppress(OSError):  # it is gone: its end is on its way
            worker.sender.send(worker.channel)
        waiting = bool(worker.sender)
        if waiting != worker.writing:
            worker.writing = waiting
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if waiting else 0)
            self._selector.modify(worker.channel, mask, worker)

    def _read(self, worker: LocalWorker, events: list[Event]) -> bool:
        """Read once; tell whether there may be more."""
        try:
            frames = worker.reader.receive(worker.channel)
        except BlockingIOError:
            return False
        except (EOFError, OSError):
            self._shut(worker)
            return False
        self._take_frames(worker, frames, events)
        return True

    @staticmethod
    def _take_frames(worker: LocalWorker, frames: list[wire.Received], events: list[Event]) -> None:
        for frame in frames:
            if frame.kind in {wire.Frame.RESULT, wire.Frame.RESULTS}:
                parts, busy, ended = frame.results()
                events.append(Results(worker.id, parts, busy, ended, frame.size))
            elif frame.kind == wire.Frame.READY:
                events.append(Ready(worker.id))
            elif frame.kind == wire.Frame.FAILED:
                events.append(HookFailed(worker.id, frame.payloads[0][0]))
            elif frame.kind == wire.Frame.COUNTER:
                events.append(CounterNamed(worker.id, frame.records))

    def _bury(self, worker: LocalWorker, events: list[Event]) -> None:
        """Take what a worker that is gone has sent, and tell of its end."""
        if self._workers.get(worker.id) is not worker:
            return
        while worker.open and self._read(worker, events):
            pass
        code = reap(worker.process)
        if not is_known(worker.process):
            code = None
        out_of_memory = (
            code == -signal.SIGKILL
            and self._oom_kills is not None
            and self._oom_kills.explains_a_death()
        )
        claims = worker.claims
        self._forget(worker)
        events.append(Exited(worker.id, code, claims.begun(), claims.began(), out_of_memory))

    def _shut(self, worker: LocalWorker) -> None:
        if worker.open:
            if not worker.lent:
                self._selector.unregister(worker.channel)
            worker.hang_up()

    def _forget(self, worker: LocalWorker) -> None:
        del self._workers[worker.id]
        self._shut(worker)
        self._unwatch(worker)
        worker.lifeline.close()

    def after_fork_in_child(self) -> None:
        """Let go of the parent's channels and its selector."""
        made = [worker for worker in self._made if isinstance(worker, LocalWorker)]
        for worker in (*self._workers.values(), *made):
            if worker.open:
                worker.channel.close()
            worker.lifeline.close()
        self._workers.clear()
        if self._template is not None:
            self._template.abandon()
        self._selector.close()
        self._waker.close()
