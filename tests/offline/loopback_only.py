"""Refuse every connection of this Python process but loopback, and note each attempt.

The suite runs under it, so that a lesson or a loader which turns to the network where the embedded
default serves is seen. It covers what goes through Python's `socket`; the refusal is no `OSError`,
because libraries take those for a network that is down, and go on quietly.
"""

import ipaddress
import os
import socket

LOG = "TLCOURSE_CONNECTIONS"  # names the file in which attempts are noted, for the process that watches


class ConnectionRefused(RuntimeError):
    """Something tried to leave this machine."""


def refuse() -> None:
    """Put the refusal in place for the rest of this process."""
    if getattr(socket.socket.connect, "loopback_only", False):
        return
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, _guarded_method(getattr(socket.socket, name), position=0))
    socket.socket.sendto = _guarded_method(socket.socket.sendto, position=-1)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, name, _guarded_lookup(getattr(socket, name)))


def _guarded_method(original, *, position):
    def guarded(self, *arguments):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _check(arguments[position][0])
        return original(self, *arguments)

    guarded.loopback_only = True
    return guarded


def _guarded_lookup(original):
    def guarded(host, *arguments, **options):
        _check(host)
        return original(host, *arguments, **options)

    return guarded


def _check(host) -> None:
    host = host.decode() if isinstance(host, bytes) else host
    # The machine's own name is asked by Jupyter; what it resolves to is checked again when connecting.
    if host in (None, "", "localhost", socket.gethostname()) or _is_loopback(host):
        return
    if LOG in os.environ:
        with open(os.environ[LOG], "a", encoding="utf-8") as log:
            log.write(f"{host}\n")
    raise ConnectionRefused(f"the suite allows only loopback connections, and something asked for {host!r}")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a name, not an address
        return False
    return address.is_loopback or address.is_unspecified
