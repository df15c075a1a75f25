"""What a signal handler raises is its caller's, wherever it comes up; never an item's outcome."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from obspool import Pool
from tests.pool import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PARENT = os.getpid()
_signals: list[int] = []


class AlarmError(Exception):
    """As many programs raise it when their time is up."""


def _handler(*_: object) -> None:
    raise AlarmError


class _Handler:
    def __call__(self, *_: object) -> None:
        raise AlarmError

    def method(self, *_: object) -> None:
        raise AlarmError


def _interrupt() -> None:
    """Have a signal come here, once."""
    if _signals and os.getpid() == _PARENT:
        signal.raise_signal(_signals.pop())
        [None for _ in range(3)]  # a handler runs between two bytecodes


class Sent:
    """Interrupted while it is pickled."""

    def __reduce__(self) -> Any:
        _interrupt()
        return int, (1,)


class Returned:
    """Interrupted while it is unpickled."""

    def __getstate__(self) -> Any:
        return {"a": 1}

    def __setstate__(self, state: Any) -> None:
        _interrupt()
        self.__dict__.update(state)


def returned(_: object) -> Returned:
    return Returned()


class _Items:
    """Interrupted while it is read."""

    def __iter__(self) -> Iterator[int]:
        yield 1
        _interrupt()
        yield 2

    def __len__(self) -> int:
        _interrupt()
        return 2


@pytest.fixture(name="pool")
def _pool() -> Iterator[Pool]:
    before = signal.signal(signal.SIGUSR1, _handler)
    try:
        with Pool(1) as pool:
            yield pool
            assert pool.apply(work.identity, (1,)) == 1
            pool.close()
            pool.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


_SENDING: dict[str, Callable[[Pool], Any]] = {
    "apply": lambda pool: pool.apply(work.identity, (Sent(),)),
    "apply again": lambda pool: [pool.apply(work.identity, (item,)) for item in (1, Sent())],
    "apply_async": lambda pool: pool.apply_async(work.identity, (Sent(),)),
    "a function": lambda pool: pool.apply_async(partial(work.identity, Sent())),
    "map": lambda pool: pool.map(work.identity, [1, Sent()]),
    "map, chunksize 1": lambda pool: pool.map(work.identity, [1, Sent()], 1),
    "map, an iterable": lambda pool: pool.map(work.identity, _Items()),
    "starmap": lambda pool: pool.starmap(work.identity, [(1,), (Sent(),)]),
    "imap": lambda pool: pool.imap(work.identity, _Items()),
}


@pytest.mark.parametrize("call", _SENDING)
def test_while_a_call_is_sent(pool: Pool, call: str) -> None:
    _signals[:] = [signal.SIGUSR1]
    with pytest.raises(AlarmError):
        _SENDING[call](pool)
    assert not _signals


_TAKING: dict[str, tuple[Callable[[Pool], Any], Callable[[Any], Any]]] = {
    "get": (lambda pool: pool.apply_async(returned, (1,)), lambda result: result.get(10)),
    "map": (lambda pool: pool.map_async(returned, [1, 2]), lambda result: result.get(10)),
    "map, chunksize 1": (lambda pool: pool.map_async(returned, [1] * 99, 1), lambda r: r.get(10)),
    "map with exceptions": (
        lambda pool: pool.map_async(returned, [1] * 99, 1, return_exceptions=True),
        lambda result: result.get(10),
    ),
    "imap": (lambda pool: pool.imap(returned, [1, 2]), lambda results: results.next(10)),
    "imap, chunks": (lambda pool: pool.imap(returned, [1, 2], 2), lambda results: results.next(10)),
}


@pytest.mark.parametrize("call", _TAKING)
def test_while_a_result_is_taken(pool: Pool, call: str) -> None:
    """The result is still there."""
    begin, take = _TAKING[call]
    given = begin(pool)
    _signals[:] = [signal.SIGUSR1]
    with pytest.raises(AlarmError):
        take(given)
    assert not _signals
    found = take(given)
    assert all(type(one) is Returned for one in (found if isinstance(found, list) else [found]))
    if hasattr(given, "successful"):
        assert given.successful()


@pytest.mark.parametrize(
    "handler",
    [_Handler(), _Handler().method, partial(_handler), partial(_Handler())],
    ids=["an object", "a method", "a partial", "a partial of an object"],
)
def test_whatever_the_handler_is(pool: Pool, handler: Any) -> None:
    result = pool.apply_async(returned, (1,))
    before = signal.signal(signal.SIGUSR2, handler)
    try:
        _signals[:] = [signal.SIGUSR2]
        with pytest.raises(AlarmError):
            result.get(10)
        assert type(result.get(10)) is Returned
    finally:
        signal.signal(signal.SIGUSR2, before)


class Unfit:
    """Can't be unpickled."""

    def __reduce__(self) -> Any:
        return _handler, ()


def unfit(_: object) -> Unfit:
    return Unfit()


def test_what_unpickling_raises_is_the_outcome(pool: Pool) -> None:
    result = pool.apply_async(unfit, (1,))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    first = work.outcome(partial(result.get, 10))
    assert first == work.outcome(partial(result.get, 10))
    assert "AlarmError" in repr(first)
    assert not result.successful()
