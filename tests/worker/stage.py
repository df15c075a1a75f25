"""A runner on a stage: a segment of plain memory, and an outbox whose messages are written down."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from obspool.messages import Batch, Call, FunctionMessage, Kind, Part, Piece
from obspool.serial import dumps, loads
from obspool.telemetry.bank import Bank, Claims
from obspool.telemetry.layout import WORD, WORKER, Layout
from obspool.words import Outcome
from obspool.worker.codec import PickleCodec
from obspool.worker.outbox import Outbox
from obspool.worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SKIPPED = "skipped"


class Failed:
    """An item's error, comparable by its type and arguments."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failed) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"Failed({type(self.error).__name__}, {self.error.args})"


class Stage:
    """A worker without a process; `outcomes` is what its parent would have been told, by number."""

    def __init__(self) -> None:
        layout = Layout(1)
        cells = memoryview(bytearray(layout.words * WORD)).cast("Q")
        self.claims = Claims(cells, layout, 0, 1, threading.Lock())
        self.claims.reset()
        self.bank = Bank(cells, layout, 0, 1)
        self.bank.open()
        self.messages: list[list[Part]] = []
        self.outcomes: dict[int, Any] = {}
        self.runner = Runner(
            self.bank, self.claims, Outbox(self._send, PickleCodec()), PickleCodec()
        )
        self.runner.open()
        self._cells = cells
        self._base = layout.worker_block(0, 1)
        self._next = 0

    def _send(self, parts: list[Part], busy: int, ended: int) -> None:
        assert busy >= 0
        assert ended >= 0
        self.messages.append(parts)
        for part in parts:
            for index, outcome in enumerate(_outcomes(part)):
                number = part.first + index
                assert number not in self.outcomes, f"item {number} twice"
                self.outcomes[number] = outcome

    @property
    def results(self) -> list[Any]:
        """The outcomes in the order of the items' numbers."""
        return [self.outcomes[number] for number in sorted(self.outcomes)]

    def read(self, field: str, outcome: Outcome | None = None) -> int:
        """Return a word of the worker's row."""
        return self.read_at(field, 0 if outcome is None else list(Outcome).index(outcome))

    def read_at(self, field: str, place: int) -> int:
        """Return one of the words of a field."""
        return int(self._cells[self._base + WORKER[field] + place])

    def chunk(
        self, items: Sequence[Any], *, stop: bool = True, skip: int = 0, function: int = 1
    ) -> Piece:
        """Return a chunk of items, without the first `skip` of them."""
        return self._piece([dumps(list(items))], len(items) - skip, True, stop, skip, function)

    def singles(self, items: Sequence[Any], function: int = 1, call: int = Call.ONE) -> Piece:
        """Return tasks of one item each."""
        payloads: list[Any] = [dumps(item) for item in items]
        return self._piece(payloads, len(items), False, False, 0, function, call)

    def _piece(
        self,
        payloads: list[Any],
        count: int,
        chunk: bool,
        stop: bool,
        skip: int,
        function: int,
        call: int = Call.ONE,
    ) -> Piece:
        first, self._next = self._next, self._next + count
        return Piece(
            function,
            call,
            chunk=chunk,
            skip=skip,
            stop_on_error=stop,
            first=first,
            count=count,
            submitted=0,
            payloads=payloads,
        )

    def run(self, function: Callable[..., Any], *pieces: Piece, kept: bool = True) -> None:
        """Run a batch of pieces of one function, whose number is 1."""
        message = FunctionMessage(1, kept=kept, label=0, payload=dumps(function))
        self.runner.run(Batch([message], [], list(pieces)))


def _outcomes(part: Part) -> list[Any]:
    if part.kind == Kind.SKIPPED:
        return [SKIPPED] * part.count
    values = [loads(payload) for payload in part.payloads]
    if part.kind == Kind.LIST:
        (values,) = values
    if part.kind == Kind.ERROR:
        values = [Failed(value) for value in values]
    assert len(values) == part.count
    return values
