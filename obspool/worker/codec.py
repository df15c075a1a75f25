"""How objects become payloads, for workers that are processes."""

from __future__ import annotations

from obspool import serial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Codec(Protocol):
        """How objects become payloads; those of `deferrable` types may be encoded later."""

        @property
        def pickles(self) -> bool:
            """Whether encoding takes any time."""

        @property
        def deferrable(self) -> frozenset[type]:
            """Types whose objects can't change."""

        def dump(self, value: Any) -> Any:
            """Encode a result; raises MaybeEncodingError when it can't be."""

        def load(self, payload: Any) -> Any:
            """Make the object again."""

        def dump_error(self, error: BaseException) -> Any:
            """Encode an exception; never raises."""


class PickleCodec:
    """Payloads for another process."""

    deferrable: frozenset[type] = serial.ATOMS
    pickles = True
    load = staticmethod(serial.loads)

    @staticmethod
    def dump(value: Any) -> Any:
        """Pickle a result.

        Raises:
            MaybeEncodingError: it can't be pickled, as in the stdlib.
        """
        try:
            return serial.dumps(value)  # a copy: later items may change it
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told as the stdlib does
            from multiprocessing.pool import (  # type: ignore[attr-defined] # noqa: PLC0415 - 5 ms
                MaybeEncodingError,
            )

            raise MaybeEncodingError(error, value) from None

    @staticmethod
    def dump_error(error: BaseException) -> Any:
        """Pickle an exception and its traceback's text, which becomes its `RemoteTraceback`."""
        from multiprocessing.pool import (  # type: ignore[attr-defined] # noqa: PLC0415 - 5 ms
            ExceptionWithTraceback,
            MaybeEncodingError,
        )

        wrapped: Any = error
        if not isinstance(error, MaybeEncodingError):
            wrapped = ExceptionWithTraceback(error, error.__traceback__)
        try:
            return serial.dumps(wrapped)
        except Exception as failure:  # noqa: BLE001 - told in place of the error
            return serial.dumps(MaybeEncodingError(failure, error))
