"""Who is at the other end of a unix socket, as the kernel says."""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import dataclass

# Of macOS's <sys/un.h>; the socket module lacks them there.
_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1
_LOCAL_PEERPID = 2
_XUCRED = struct.Struct("=IIh2x16I")  # version, uid, number of groups, groups
_UCRED = struct.Struct("=iII")  # pid, uid, gid; Linux


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that asks.

    Attributes:
        pid: in our own pid namespace; 0 when it can't be seen from there.
    """

    uid: int
    pid: int

    @property
    def may_command(self) -> bool:
        """Whether it may steer this process: the same user, or root."""
        return self.uid in {os.geteuid(), 0}


def peer_of(connection: socket.socket) -> Peer:
    """Return who connected, or for a client who listens.

    Raises:
        OSError: the kernel doesn't say; such a peer may do nothing.
    """
    if sys.platform == "darwin":
        credentials = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
        pid = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID)
        return Peer(uid=_XUCRED.unpack(credentials)[1], pid=pid)
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _gid = _UCRED.unpack(credentials)
    return Peer(uid=uid, pid=pid)
