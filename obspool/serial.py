"""Pickling: one payload for each object, with everything that multiprocessing can pickle, and more.

A payload is the pickle (protocol 5, ForkingPickler's and copyreg's reducers) as `bytes`, as
`Chunks` when there are large `bytes` in it, which are not copied, or a `Packed` when the object has
large buffers, which then travel out of band beside it. What pickle refuses, cloudpickle is asked
for: lambdas, closures, classes made in functions.
"""

from __future__ import annotations

import copyreg
import pickle
from multiprocessing.reduction import ForkingPickler
from pickle import PickleBuffer, Pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Reducers = dict[type, Callable[[Any], Any]]

PROTOCOL = 5

# Smaller buffers cost less inside the pickle: a buffer of its own is one more part of a message,
# and one more allocation on the other side.
OUT_OF_BAND_BYTES = 1 << 16

# From this size on the pickler hands over a `bytes` as it is, where it may write. (Its own number.)
LARGE_BYTES = 1 << 16

# Immutable, and nothing that a reducer could be registered for: the C pickler may do them alone,
# and pickling them may wait.
ATOMS: frozenset[type] = frozenset({int, float, bool, str, bytes, complex, type(None)})

_SMALL_ATOMS = ATOMS - {bytes}  # as far as their size matters here

_FLAT = frozenset({tuple, list})

# To look at the types of more elements costs more than the pickler that knows the reducers.
_FEW = 64

_dumps = pickle.dumps
_loads = pickle.loads


class Chunks(list[bytes]):
    """A pickle as the pickler writes it: large `bytes` objects in it are the user's own."""

    __slots__ = ()

    write = list.append


class Packed:
    """A pickle with buffers out of band.

    Attributes:
        data: the pickle.
        buffers: contiguous, in the order in which the pickle wants them.
    """

    __slots__ = ("buffers", "data")

    def __init__(self, data: bytes | Chunks, buffers: list[memoryview | bytearray | bytes]) -> None:
        self.data = data
        self.buffers = buffers


if TYPE_CHECKING:
    Payload: TypeAlias = bytes | memoryview | Chunks | Packed


def dumps(value: Any, *, copy: bool = True) -> Payload:
    """Pickle one object by itself.

    Args:
        value: the object.
        copy: whether large buffers are copied. Without it the payload refers to the object's own
            memory: right only where the payload is sent before anybody can change the object.
            (`bytes` can't be changed, and are never copied.)

    Raises:
        Exception: whatever pickle raised, when cloudpickle couldn't pickle it either.
    """
    kind = type(value)
    if kind is tuple and len(value) < _FEW:
        for element in value:  # the arguments of a call: so few that a loop is faster than `map`
            if type(element) not in _SMALL_ATOMS:
                break
        else:
            return _dumps(value, PROTOCOL)
    if kind in _FLAT:
        simple = len(value) < _FEW and (
            _SMALL_ATOMS.issuperset(map(type, value))
            or (ATOMS.issuperset(map(type, value)) and not any(map(_is_large, value)))
        )
    else:
        simple = kind in _SMALL_ATOMS or (kind is bytes and len(value) < LARGE_BYTES)
    if simple:
        return _dumps(value, PROTOCOL)
    try:
        return _pickle(Pickler, value, copy=copy)
    except Exception as error:  # noqa: BLE001 - what __reduce__ raises is up to the user
        from obspool.handlers import pass_on  # noqa: PLC0415 - seldom needed

        pass_on(error)
        try:
            from cloudpickle import Pickler as CloudPickler  # noqa: PLC0415 - 20 ms, seldom needed

            return _pickle(with_reducers(CloudPickler), value, copy=copy)
        except Exception as second:  # noqa: BLE001 - the first error is the one that tells
            pass_on(second)
            raise error from None


def loads(payload: Payload) -> Any:
    """Make the object again."""
    if type(payload) is bytes:
        return _loads(payload)
    if isinstance(payload, Packed):
        return _loads(_joined(payload.data), buffers=payload.buffers)
    return _loads(_joined(payload))


def _is_large(value: Any) -> bool:
    return type(value) is bytes and len(value) >= LARGE_BYTES


def _joined(pickled: bytes | memoryview | Chunks) -> bytes | memoryview:
    return b"".join(pickled) if isinstance(pickled, Chunks) else pickled


def size_of(payload: Payload) -> int:
    """Return the bytes that travel for this payload."""
    if type(payload) is bytes:
        return len(payload)
    if isinstance(payload, Packed):
        return size_of(payload.data) + sum(map(len, payload.buffers))
    return sum(map(len, payload)) if isinstance(payload, Chunks) else len(payload)


def _pickle(make: Callable[..., Any], value: Any, *, copy: bool) -> Payload:
    buffers: list[memoryview | bytearray | bytes] = []

    def keep_in_band(buffer: PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: only pickle itself knows how
            return True
        if raw.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(bytearray(raw) if copy else raw)
        return False

    chunks = Chunks()
    pickler = make(chunks, PROTOCOL, buffer_callback=keep_in_band)
    if make is Pickler:
        pickler.dispatch_table = reducers()
    pickler.dump(value)
    if len(chunks) == 1:
        data: bytes | Chunks = chunks[0]
    else:  # a bytearray may be changed, once this has returned
        data = Chunks(chunk if type(chunk) is bytes else bytes(chunk) for chunk in chunks)
    return Packed(data, buffers) if buffers else data


def with_reducers(base: Any) -> Any:
    """Return cloudpickle's pickler, or one derived from it, with today's reducers as well.

    Its table is an attribute of the class, which is looked at when a pickler is made.
    """
    table = {**base.dispatch_table, **reducers()}
    return type(base.__name__, (base,), {"dispatch_table": table})


_cached: Reducers = {}
_cached_from: tuple[Reducers, Reducers] = ({}, {})


def reducers() -> Reducers:
    """Return copyreg's and ForkingPickler's reducers as one table, as they are now.

    A plain dict, made again when a table has changed: ForkingPickler's own ChainMap costs 1.5 µs
    for each object of a class.
    """
    global _cached, _cached_from  # noqa: PLW0603 - a cache
    extra: Reducers = ForkingPickler._extra_reducers  # type: ignore[attr-defined] # noqa: SLF001
    if _cached_from != (copyreg.dispatch_table, extra):
        _cached_from = (dict(copyreg.dispatch_table), dict(extra))
        _cached = {**copyreg.dispatch_table, **extra}
    return _cached
