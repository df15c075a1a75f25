"""Who may scrape: names and passwords from a file, checked as HTTP's basic authentication."""

from __future__ import annotations

import base64
import binascii
import hmac
import stat
from typing import TYPE_CHECKING

from obspool.errors import ObspoolError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_FILE = 64 * 1024
_OTHERS = stat.S_IRWXO


class CredentialsError(ObspoolError, ValueError):
    """A file of names and passwords can't be used; the message says why."""


class Credentials:
    """Names and their passwords."""

    def __init__(self, pairs: dict[str, str]) -> None:
        self._known = tuple(f"{name}:{password}".encode() for name, password in pairs.items())

    @classmethod
    def read(cls, path: Path) -> Credentials:
        """Read a file with a line `NAME:PASSWORD` for each; empty ones and `# …` are left out.

        Raises:
            CredentialsError: it can't be read, others may read it, or a line has another form; the
                message never has a password.
        """
        try:
            mode = path.stat().st_mode
            with path.open("rb") as file:
                raw = file.read(_MAX_FILE + 1)
        except OSError as error:
            raise CredentialsError(f"{path} can't be read: {error.strerror or error}") from error
        if mode & _OTHERS:
            raise CredentialsError(
                f"{path} has passwords, and everybody may open it: chmod o= {path}"
            )
        if len(raw) > _MAX_FILE:
            raise CredentialsError(f"{path} is longer than {_MAX_FILE} bytes")
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise CredentialsError(f"{path} isn't UTF-8") from error
        pairs: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, colon, password = line.strip().partition(":")
            if not colon or not name or not password:
                raise CredentialsError(f"{path}, line {number}: it isn't NAME:PASSWORD")
            pairs[name] = password
        if not pairs:
            raise CredentialsError(f"{path} has no line NAME:PASSWORD")
        return cls(pairs)

    def allow(self, authorization: str) -> bool:
        """Tell whether an Authorization header is of somebody known.

        It takes as long for a wrong password as for a right one.
        """
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        found = [hmac.compare_digest(given, known) for known in self._known]
        return any(found)
