"""Descriptors that forked children must not keep."""

from __future__ import annotations

import os
import warnings

import pytest

from obspool import _fork


def test_a_socket_nobody_refers_to_is_closed_without_a_word() -> None:
    one, other = _fork.Socket.pair()
    number = one.fileno()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del one
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert other.recv(1) == b""
    other.close()
