"""The review page served on this machine alone, to whoever has its address: a token in it is all that opens it.

The token keeps out other users and pages of other sites; the Host header, sites whose names are made to point here. The
server reads and writes nothing that a request names: pictures go by number, and corrections to one file.
"""

import hmac
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mien.models.errors import MienError, one_line
from mien.pipelines.reports.review_photos import Looked
from mien.transforms.policy import MAX_CORRECTIONS

HOST = "127.0.0.1"
_SECONDS = 60  # a request at most
_AT_ONCE = 2  # pictures that are made at the same time
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # what the page cannot say of itself
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ConflictError(MienError):
    """Corrections that were changed by somebody else meanwhile."""


class ReviewServer(ThreadingHTTPServer):
    """Serves the page, its pictures and what is saved.

    page: the HTML, with the corrections so far. look: the photo of that number; IndexError for one that is not there.
    save: writes corrections, given their bytes and the digest of those that they follow, and returns the new digest;
    MienError for those that cannot be saved, ConflictError where others were saved meanwhile.
    """

    daemon_threads = True

    def __init__(
        self, page: Callable[[], bytes], look: Callable[[int], Looked], save: Callable[[bytes, str], str]
    ) -> None:
        super().__init__((HOST, 0), _Handler)
        self.page = page
        self.save = save
        self._look = look
        self._slots = threading.Semaphore(_AT_ONCE)
        self.token = secrets.token_urlsafe(32)

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a browser that was sent here calls the server."""
        return f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def look(self, number: int) -> Looked:
        """A photo's picture."""
        with self._slots:
            return self._look(number)


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    timeout = _SECONDS
    server_version, sys_version = "mien", ""

    def do_GET(self) -> None:
        """The page, or a picture by its number."""
        place = self._place()
        if place == "":
            self._answer(200, self.server.page(), "text/html; charset=utf-8")
        elif place is not None and place.startswith("picture/") and place[8:].isdecimal() and len(place) < 20:
            self._picture(int(place[8:]))
        elif place is not None:
            self._refuse(404, "nothing is here")

    def do_POST(self) -> None:
        """Corrections, to be saved."""
        place = self._place()
        if place is None:
            return
        origin, length = self.headers.get("Origin"), self.headers.get("Content-Length", "")
        if place != "corrections":
            self._refuse(404, "nothing is here")
        elif origin is not None and origin not in [f"http://{host}" for host in self.server.hosts]:
            self._refuse(403, "not from this page")
        elif self.headers.get_content_type() != "application/jsonl":
            self._refuse(415, "corrections are wanted here")
        elif not (length.isascii() and length.isdecimal() and len(length) < 12):
            self._refuse(411, "a length is wanted here")
        elif int(length) > MAX_CORRECTIONS:
            self._refuse(413, f"over {MAX_CORRECTIONS} bytes")
        else:
            self._save(int(length))

    def _place(self) -> str | None:
        """What is asked for, behind the token; None for a request that was refused."""
        if self.headers.get("Host", "") not in self.server.hosts:
            self._refuse(403, "not this server")
            return None
        _, _, rest = self.path.partition("/")
        token, slash, place = rest.partition("/")
        # bytes, since a text with other than ASCII is an error to compare
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()) or not slash:
            self._refuse(403, "the address is not complete")
            return None
        return place

    def _picture(self, number: int) -> None:
        try:
            looked = self.server.look(number)
        except IndexError:
            self._refuse(404, "no such photo")
            return
        headers = {"X-Frame": f"{looked.frame[0]} {looked.frame[1]}"} if looked.frame else {}
        if looked.picture:
            self._answer(200, looked.picture, "image/webp", headers)
        else:
            self._answer(200, looked.note.encode(), "text/plain; charset=utf-8", headers)

    def _save(self, length: int) -> None:
        data = self.rfile.read(length)
        if len(data) != length:
            self._refuse(400, "cut off")
            return
        try:
            digest = self.server.save(data, self.headers.get("If-Match", ""))
        except ConflictError as error:
            self._refuse(409, str(error))
        except MienError as error:
            self._refuse(400, str(error))
        except Exception as error:  # a full disk, a store that is away
            self._refuse(500, f"not saved: {one_line(error)}")
        else:
            self._answer(200, digest.encode(), "text/plain; charset=utf-8")

    def _refuse(self, status: int, why: str) -> None:
        self.close_connection = True
        self._answer(status, f"{one_line(why)}\n".encode(), "text/plain; charset=utf-8")

    def _answer(self, status: int, data: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | (more or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: a request's line has the token."""
