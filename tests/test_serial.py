from __future__ import annotations

import copyreg
import pickle
import threading
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obspool.serial import (
    LARGE_BYTES,
    OUT_OF_BAND_BYTES,
    Chunks,
    Packed,
    dumps,
    loads,
    reducers,
    size_of,
)

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.frozensets(st.integers())
    ),
)


class Odd:
    """Pickled as its number alone."""

    def __init__(self, number: int) -> None:
        self.number = number


class Plain:
    """Refused by pickle, until a reducer is registered for it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.Lock()


def _reduce_plain(value: Plain) -> Any:
    return Plain, (value.number,)


@given(_VALUES)
@settings(max_examples=150, deadline=None)
def test_whatever_pickle_carries_comes_back_equal(value: Any) -> None:
    """Payloads are pickles: what goes in comes out, with its types."""
    for copy in (True, False):
        again = loads(dumps(value, copy=copy))
        assert again == value
        assert type(again) is type(value)


@pytest.mark.parametrize("register", [ForkingPickler.register, copyreg.pickle])
def test_a_reducer_registered_after_the_first_use_is_used(
    register: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library registers its reducers when it is imported, maybe after the pool was made."""
    monkeypatch.setattr(copyreg, "dispatch_table", dict(copyreg.dispatch_table))
    monkeypatch.setattr(
        ForkingPickler, "_extra_reducers", dict(vars(ForkingPickler)["_extra_reducers"])
    )
    assert Plain not in reducers()
    with pytest.raises(TypeError, match="pickle"):
        dumps(Plain(3))
    register(Plain, _reduce_plain)
    assert loads(dumps(Plain(3))).number == 3
    assert loads(dumps([Plain(4)]))[0].number == 4


def test_a_reducer_that_is_replaced_counts_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is asked as it is now, not as it was when it was first needed."""
    monkeypatch.setattr(
        ForkingPickler, "_extra_reducers", dict(vars(ForkingPickler)["_extra_reducers"])
    )
    ForkingPickler.register(Odd, lambda odd: (Odd, (odd.number + 100,)))
    assert loads(dumps(Odd(1))).number == 101
    ForkingPickler.register(Odd, lambda odd: (Odd, (odd.number + 200,)))
    assert loads(dumps(Odd(1))).number == 201


def test_cloudpickle_carries_what_pickle_refuses() -> None:
    """Lambdas, closures and classes made in functions travel, within other objects too."""
    base = 10

    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    carried = loads(dumps({"add": lambda x: x + base, "made": Local(7)}))
    assert carried["add"](5) == 15
    assert carried["made"].value == 7


def test_cloudpickle_uses_registered_reducers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lambda that holds a socket or a tensor needs multiprocessing's reducer for it."""
    monkeypatch.setattr(
        ForkingPickler, "_extra_reducers", dict(vars(ForkingPickler)["_extra_reducers"])
    )
    ForkingPickler.register(Plain, _reduce_plain)
    plain = Plain(5)
    assert loads(dumps(lambda: plain.number))() == 5


def test_what_nothing_can_pickle_raises_pickles_own_error() -> None:
    """The error names what pickle said, not what the second attempt said."""
    with pytest.raises(TypeError, match=r"^cannot pickle '_thread.lock' object$") as caught:
        dumps(threading.Lock())
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("copy", [True, False])
def test_large_buffers_go_out_of_band_and_are_copied_when_asked(copy: bool) -> None:
    """With `copy`, what the caller does to an array later doesn't reach the worker."""
    array = np.zeros(OUT_OF_BAND_BYTES, "u1")
    payload = dumps(array, copy=copy)
    assert isinstance(payload, Packed)
    assert len(payload.data) < 1000
    assert size_of(payload) >= OUT_OF_BAND_BYTES
    array[0] = 9
    assert loads(payload)[0] == (0 if copy else 9)


def test_small_and_scattered_buffers_stay_in_the_pickle() -> None:
    """A small array costs less inside; one that isn't contiguous can't leave the pickle at all."""
    small, scattered = np.arange(100), np.zeros((1000, 1000))[::3, ::7]
    for array in (small, scattered):
        payload = dumps(array)
        assert not isinstance(payload, Packed)
        np.testing.assert_array_equal(loads(payload), array)


def test_an_array_keeps_its_shape_and_order_out_of_band() -> None:
    """Fortran order and shape survive, although only raw bytes travel."""
    array = np.asfortranarray(np.arange(40_000, dtype="f8").reshape(200, 200))
    again = loads(dumps(array))
    np.testing.assert_array_equal(again, array)
    assert again.flags.f_contiguous


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: data,
        lambda data: [1, data, data],
        lambda data: ((data,), {"copies": [data]}),
        lambda data: [data, np.zeros(OUT_OF_BAND_BYTES, "u1")],
    ],
    ids=["alone", "flat", "nested", "with an array"],
)
def test_large_bytes_are_not_copied(wrap: Any) -> None:
    """Wherever in an object they are, the payload refers to the very same bytes."""
    data = bytes(LARGE_BYTES)
    payload = dumps(wrap(data))
    chunks = payload.data if isinstance(payload, Packed) else payload
    assert isinstance(chunks, Chunks)
    assert sum(chunk is data for chunk in chunks) == 1
    assert sum(len(chunk) for chunk in chunks if chunk is not data) < 1000
    assert len(data) < size_of(payload) < len(data) + OUT_OF_BAND_BYTES + 1000
    again = loads(payload)
    while not isinstance(again, bytes):
        again = next(one for one in again if isinstance(one, bytes | tuple))
    assert again == data


def test_a_large_bytearray_is_copied() -> None:
    """What the caller does to it later doesn't reach the worker."""
    data = bytearray(LARGE_BYTES)
    payload = dumps([data, "é" * LARGE_BYTES])
    data[0] = 9
    assert loads(payload) == [bytearray(LARGE_BYTES), "é" * LARGE_BYTES]


def test_objects_of_one_payload_stay_shared_and_those_of_two_do_not() -> None:
    """Each item is pickled alone: two tasks never see what the other did to an object."""
    shared: list[int] = []
    one = loads(dumps([shared, shared]))
    assert one[0] is one[1]
    assert loads(dumps(shared)) is not loads(dumps(shared))


def test_payloads_are_ordinary_pickles() -> None:
    """A payload without large buffers is what pickle.loads takes."""
    payload = dumps({"a": [1, 2]})
    assert isinstance(payload, bytes)
    assert pickle.loads(payload) == {"a": [1, 2]}
