"""The owner's side of a segment: making it, publishing it, ending it.

    <directory>/.<pid>-<random>.tmp     prepare(): made, preallocated, mapped, locked
              │ publish(): under the directory's lock: the name is chosen, the header written
              ▼ rename
    <directory>/<name>.<random>.obspool      what readers see; locked for the pool's life
              │ close(): state, outcome, end; the lock goes
              ▼
    kept for `retention.keep_seconds()`

Where no directory has room or gives the right, the segment is a memfd, which readers find through
/proc. Telemetry never keeps a pool from working.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from obspool import _fork
from obspool.telemetry import cells, header, locks, own, place, retention, source
from obspool.telemetry.facts import MAX_NAME, pool_name, with_suffix
from obspool.telemetry.layout import MOST_SLOTS, POOL, SLOT_WORDS, WORD, Layout
from obspool.words import PoolOutcome, PoolState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from obspool.telemetry.facts import PoolFacts

_OWNER_ONLY = 0o600
_OWNER_AND_GROUP = 0o640
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ENDED = list(PoolState).index(PoolState.ENDED)
_OUTCOMES = list(PoolOutcome)
_ZEROS = bytes(1 << 16)
_MAX_FILE = 32  # characters of a control socket's name in its directory, and more

# Files of pools that ended in this process: to look whether they live would cost each new one.
_ended: deque[str] = deque(maxlen=retention.MAX_ENDED)

_log = logging.getLogger("obspool")


class Segment(cells.SegmentCells):
    """A pool's segment, in the process that owns the pool; `Segment.create` makes one.

    A forked child keeps the mapping (a worker stores into it) and nothing else: there `fd` is -1
    and `close` does nothing.

    Attributes:
        facts: with the name that was really given.
        path: of the file, None when it has none (a memfd).
        published: whether it has its name and may be found; False also while it is being made.
    """

    attach = staticmethod(cells.attach)

    def __init__(self, fd: int, layout: Layout, facts: PoolFacts, words: int) -> None:
        """Map a new file that is `words` long; afterwards the descriptor is the segment's.

        Raises:
            OSError: it can't be mapped.
        """
        super().__init__(fd, layout, words)
        self._wanted = facts.name
        # Until it is published other processes don't matter: what was made first is named first.
        taken = {segment.facts.name for segment in own.segments()}
        self.facts: PoolFacts = replace(
            facts, name=_first(facts.name, lambda name: name not in taken)
        )
        self.path: str | None = None
        self._temporary: Path | None = None
        self.published = False
        self._held: bool | None = True
        self._swept = False
        # hold() must not lock the file that gets the descriptor's number next. Reentrant: a garbage
        # collection in there, or a signal's handler, may close the pool.
        self._closing = threading.RLock()
        self._close_fd = weakref.finalize(self, os.close, fd) if fd >= 0 else None
        if self._close_fd is not None:
            self._close_fd.atexit = False
            own.add(self)
        _fork.register(self)

    @classmethod
    def create(cls, facts: PoolFacts, slots: int, *, publish: bool = True) -> Segment:
        """Make the segment of a pool; `prepare` and `publish` in one.

        Args:
            facts: a name that a live pool has already gets the next free suffix.
            slots: how many workers it has room for.
            publish: False: no file, no lock, not to be found by anybody (OBSPOOL_DISABLE).

        Raises:
            ValueError: `facts.name` isn't a pool's name, or there are too many slots.
            OSError: not even memory is to be had.
        """
        segment = cls.prepare(facts, slots, publish=publish)
        if publish:
            segment.publish(facts.control)
        return segment

    @classmethod
    def prepare(cls, facts: PoolFacts, slots: int, *, publish: bool = True) -> Segment:
        """Make a segment that workers can use, in the first place that has room and the right.

        Args:
            facts: see `create`; what is known when it is published may still be missing.
            slots: see `create`.
            publish: whether `publish` will be called.

        Raises:
            ValueError: see `create`.
            OSError: see `create`.
        """
        if facts.name != pool_name(facts.name):
            raise ValueError(f"not a pool's name: {facts.name!r}")
        if not 0 <= slots <= header.MAX_SLOTS:
            raise ValueError(f"at most {header.MAX_SLOTS} slots, not {slots}")
        directories = place.candidates()
        longest = max((len(str(directory)) for directory in directories), default=0) + _MAX_FILE
        described = replace(facts, name="x" * MAX_NAME, control=facts.control or "x" * longest)
        layout = header.fitting(described, slots)
        if not publish:
            segment = _in_memory(facts, layout, place.PRIVATE_MEMORY)
            segment._write_header()  # noqa: SLF001
            own.remove(segment)  # it holds no lock, and takes nobody's name
            return segment
        troubles: list[str] = []
        for directory in directories:
            try:
                return _in_directory(directory, facts, layout)
            except OSError as error:
                troubles.append(f"{directory}: {error.strerror or error}")
        facts = replace(facts, name=_free_name(facts.name))
        segment = _in_memory(facts, layout, place.memory_name(facts.name))
        if segment.fd >= 0:
            with suppress(OSError):  # without locks its state alone says that it lives
                locks.take(segment.fd)
        _log.info(
            "pool %s: no directory for its telemetry (%s); kept in memory, where this user's "
            "`obspool top` finds it while the pool lives",
            facts.name,
            "; ".join(troubles),
        )
        return segment

    def publish(
        self, control: str | None = None, *, patience: float = locks.DIRECTORY_PATIENCE
    ) -> bool:
        """Give the segment its name, and let it be found.

        Args:
            control: path of the control socket, None when there is none.
            patience: how long to wait for others that are doing so (seconds); 0: not at all.

        Returns:
            False when that wasn't long enough.
        """
        self.facts = replace(self.facts, control=control)
        if self._temporary is None:
            self._name(self.facts.name)
            return True
        directory = self._temporary.parent
        try:
            with locks.directory(directory, patience):
                self._name(_free_name(self._wanted, self))
                path = directory / f"{self.facts.name}.{os.urandom(6).hex()}{place.SUFFIX}"
                self._temporary.rename(path)
        except OSError as error:  # the directory went away meanwhile
            self.published = False
            if not patience and isinstance(error, TimeoutError):
                return False
            _log.info("pool %s: its telemetry can't be found: %s", self.facts.name, error)
        else:
            self._temporary, self.path = None, str(path)
        return True

    def held(self) -> bool | None:
        """Tell whether the pool lives; None in a forked child, which can't know."""
        _fork.settle()
        return self._held

    def hold(self) -> None:
        """Say that the pool lives, to be called now and then (each second, say), and by `close`.

        Takes the lock back, should other code of this process have closed a descriptor of the file,
        and sets the file's time, by which sweepers of temp directories go. The first time sweeps
        the directory as well: for that, the making of a pool needn't wait.
        """
        _fork.settle()
        with self._closing:
            if self._held and self.fd >= 0:
                # A file system that went away must not stop the pool's own thread.
                with suppress(OSError):
                    locks.take(self.fd)
                    os.utime(self.fd)
        if self.path is not None and not self._swept:
            self._swept = True
            retention.sweep(Path(self.path).parent)

    def grow(self, slots: int) -> None:
        """Make room for so many slots, in this process and all that share the mapping.

        Raises:
            ValueError: so many can't be.
            OSError: there is no room.
        """
        wanted = Layout(slots, self.layout.header_words)
        if wanted.words > len(self.cells):
            most = (len(self.cells) - self.layout.first_slot) // SLOT_WORDS
            raise ValueError(f"at most {most} workers, not {slots}")
        with self._closing:
            if slots <= self.layout.slots or not self._held:  # nothing is stored any more
                return
            if self.fd >= 0:
                _allocate(self.fd, wanted.words * WORD, self.layout.words * WORD)
            self.layout = wanted
            self.cells[wanted.pool + POOL["slots"]] = slots

    def close(self, outcome: PoolOutcome) -> None:
        """Write how the pool ended and let go of the file, which stays for the keep time.

        The cells stay valid, for a last reading and for threads that still store. Does nothing the
        second time, and in a forked child.
        """
        _fork.settle()
        with self._closing:
            if not self._held:
                return
            pool = self.layout.pool
            self.cells[pool + POOL["outcome"]] = 1 + _OUTCOMES.index(outcome)
            self.cells[pool + POOL["ended_wall"]] = time.time_ns()
            self.cells[pool + POOL["state"]] = _ENDED  # last: then the other two are there
            self.hold()
            self._held = False
            self._forget()
        _ended.append(Path(self.path or "").name)
        if self._temporary is not None:  # it never got its name
            with suppress(OSError):
                self._temporary.unlink()
        if self.path is not None and retention.keep_seconds() == 0:
            with suppress(OSError):
                Path(self.path).unlink()

    def after_fork_in_child(self) -> None:
        """Disown the segment; the mapping stays, because the child may be a worker.

        Without the lock of close(), which a thread that isn't in the child may have held.
        """
        self._held = None
        self._forget()

    def _forget(self) -> None:
        """Close the descriptor, and with it, in the owner, release the lock."""
        own.remove(self)
        _fork.unregister(self)
        self.fd = -1
        if self._close_fd is not None:
            # Another owner of the descriptor's number may have closed it, a daemon's close-all.
            with suppress(OSError):
                self._close_fd()  # once only, whoever else calls it

    def _name(self, name: str) -> None:
        self.facts = replace(self.facts, name=name)
        self.published = True
        self._write_header()

    def _write_header(self) -> None:
        raw = header.encode(self.facts, self.layout)
        # The first word goes last: without its magic a file is nobody's segment.
        memory = self.cells.cast("B")
        memory[WORD : len(raw)] = raw[WORD:]
        memory[:WORD] = raw[:WORD]


def _in_directory(directory: Path, facts: PoolFacts, layout: Layout) -> Segment:
    """Make the file of a segment.

    Raises:
        OSError: no room, no right, or the file system lacks something.
    """
    place.prepare(directory)
    temporary = directory / f".{os.getpid()}-{os.urandom(6).hex()}{retention.TEMPORARY_SUFFIX}"
    fd = os.open(temporary, _NEW_FILE, _OWNER_ONLY)
    try:
        segment = _made(fd, facts, layout)
        try:
            _share(fd)
            locks.take(fd)
        except BaseException:
            segment.after_fork_in_child()
            raise
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    segment._temporary = temporary  # noqa: SLF001 - its own factory
    return segment


def _in_memory(facts: PoolFacts, layout: Layout, name: str) -> Segment:
    """Make a segment without a name in any directory.

    Raises:
        OSError: there is no memory.
    """
    makers = [_unlinked]
    if sys.platform == "linux":
        makers.insert(0, lambda: os.memfd_create(name, os.MFD_CLOEXEC))
    for make in makers:
        try:
            return _made(make(), facts, layout)
        except OSError as error:
            _log.debug("pool %s: %s", facts.name, error)
    # A limit on the size of files (ulimit -f) is none on this; only forked workers share it.
    return Segment(-1, layout, facts, _most(layout).words)


def _unlinked() -> int:
    fd, path = tempfile.mkstemp(prefix=place.PREFIX)
    Path(path).unlink()
    return fd


def _made(fd: int, facts: PoolFacts, layout: Layout) -> Segment:
    """Give the file its length and map it; close it when that fails.

    More is mapped than there is: what the file grows by later is there at once, in every process
    that has inherited the mapping.
    """
    try:
        size = layout.words * WORD
        _allocate(fd, size)
        words = _most(layout).words
        try:
            os.ftruncate(fd, words * WORD)  # longer for a moment, as it can't be mapped else
        except OSError:  # there is a limit on the size of files
            words = layout.words
        segment = Segment(fd, layout, facts, words)
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return segment


def _most(layout: Layout) -> Layout:
    """Return the largest layout that this one may grow to."""
    return Layout(max(MOST_SLOTS, layout.slots), layout.header_words)


def _allocate(fd: int, size: int, before: int = 0) -> None:
    """Have the file system set the room aside: a store into a sparse file may kill the process.

    Raises:
        OSError: there is no room.
    """
    if sys.platform != "darwin":
        try:
            os.posix_fallocate(fd, before, size - before)
            return
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
                raise
    for offset in range(before, size, len(_ZEROS)):
        chunk = _ZEROS[: size - offset]
        if os.pwrite(fd, chunk, offset) != len(chunk):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _share(fd: int) -> None:
    """Set the file's mode whatever the umask says: 0600, with OBSPOOL_GROUP 0640 and that group."""
    mode = _OWNER_ONLY
    try:
        gid = place.group()
        if gid is not None:
            os.fchown(fd, -1, gid)
            mode = _OWNER_AND_GROUP
    except (LookupError, OverflowError, PermissionError) as error:
        _log.info("OBSPOOL_GROUP: the segment isn't shared with its group (%s)", error)
    os.fchmod(fd, mode)


def _first(wanted: str, is_free: Callable[[str], bool]) -> str:
    """Return the name, or the first of its suffixed forms, that is free."""
    return next(filter(is_free, (with_suffix(wanted, number) for number in itertools.count(1))))


def _free_name(wanted: str, segment: Segment | None = None) -> str:
    """Return the first form of the name that no other live pool of ours than the segment's has."""
    taken = {other.facts.name for other in own.segments() if other is not segment}
    files = list(_segments_by_name(wanted[: MAX_NAME // 2], place.candidates()))
    return _first(
        wanted,
        lambda name: (
            name not in taken and not any(base == name and _lives(file) for base, file in files)
        ),
    )


def _segments_by_name(
    beginning: str, directories: Iterable[Path]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    for directory in directories:
        with suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith(beginning) or entry.name in _ended:
                    continue
                base, dot, _ = entry.name.removesuffix(place.SUFFIX).rpartition(".")
                if dot and entry.name.endswith(place.SUFFIX):
                    yield base, entry


def _lives(file: os.DirEntry[str]) -> bool:
    try:
        status = file.stat(follow_symlinks=False)
    except OSError:
        return False  # it went meanwhile
    return stat.S_ISREG(status.st_mode) and source.is_held(file.path, status)
