"""How far a local job has come: workers send a datagram a photo over loopback, the command shows their sum."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from tqdm import tqdm

from mien.transforms.elements import CodedPhoto, SafePhoto

LISTED, SKIPPED, DONE, FAILED = b"L", b"S", b"D", b"F"
_LINE_SECONDS = 10.0
_POLL_SECONDS = 0.2


class SendProgress(beam.DoFn):
    """Sends one datagram an element and hands it on. A lost one costs a count in the display and nothing else."""

    def __init__(self, address: tuple[str, int] | None, kind: bytes) -> None:
        self._address = address
        self._kind = kind

    def setup(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def teardown(self) -> None:
        self._socket.close()

    def process(self, element: Any) -> Iterator[Any]:
        if self._address is not None:
            faces = len(element.faces) if isinstance(element, CodedPhoto | SafePhoto) else 0
            with contextlib.suppress(OSError):
                self._socket.sendto(self._kind + str(faces).encode(), self._address)
        yield element


class Progress:
    """Listens for the workers' datagrams and shows what they add up to, until it is closed."""

    def __init__(self, quiet: bool) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(_POLL_SECONDS)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.address: tuple[str, int] = self._socket.getsockname()
        self._counts = {LISTED: 0, SKIPPED: 0, DONE: 0, FAILED: 0}
        self._faces = 0
        self._started = self._printed = time.monotonic()
        self._quiet = quiet
        self._bar = tqdm(unit="photo") if not quiet and sys.stderr.isatty() else None
        self._open = True
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and ends the bar."""
        self._open = False
        self._thread.join()
        self._socket.close()
        if self._bar is not None:
            self._bar.close()

    def line(self) -> str:
        """Where the job stands."""
        done = self._counts[DONE] + self._counts[FAILED]
        rate = done / max(time.monotonic() - self._started, 1e-3)
        total = max(self._counts[LISTED] - self._counts[SKIPPED], done)
        return f"{done} of {total} photos, {rate:.2f} photos/s, {self._faces} faces, {self._counts[FAILED]} failed"

    def _listen(self) -> None:
        while self._open:
            try:
                message = self._socket.recv(64)
            except TimeoutError:
                message = b""
            kind, faces = message[:1], message[1:]
            if kind in self._counts and faces.isdigit():
                self._counts[kind] += 1
                self._faces += int(faces)
            self._show()

    def _show(self) -> None:
        if self._bar is not None:
            done = self._counts[DONE] + self._counts[FAILED]
            self._bar.total = max(self._counts[LISTED] - self._counts[SKIPPED], done) or None
            self._bar.set_postfix(faces=self._faces, failed=self._counts[FAILED], refresh=False)
            self._bar.update(done - self._bar.n)
            if time.monotonic() - self._printed >= _POLL_SECONDS:  # the clock goes on where no photo is done
                self._printed = time.monotonic()
                self._bar.refresh()
        elif not self._quiet and time.monotonic() - self._printed >= _LINE_SECONDS:
            self._printed = time.monotonic()
            print(self.line(), file=sys.stderr, flush=True)
