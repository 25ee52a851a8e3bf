"""mien review: what the page shows and what it must not, who may save what, and the page used in a browser."""

import base64
import contextlib
import hashlib
import http.client
import io
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mien.pipelines.cli import main
from mien.pipelines.reports.review import FILE, Review
from mien.pipelines.reports.review_server import ReviewServer
from tests.pipelines.reports.browser import Browser, needs_chromium

HOSTILE = "<img src=x onerror=hacked()>&'\".jpg"
ROW = {"sharpness": 9.0, "rank": 1, "center": 0.1, "yaw": None, "pitch": None, "area": 0.1, "score": 0.9}
FACE = ROW | {"box": [10.0, 12.0, 30.0, 40.0], "action": "fill", "rule": "otherwise", "decided": "fill"}
SECRET = (250, 20, 20)  # what the originals show


def review(*words: object) -> int:
    return main(["review", *map(str, words), "-q"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What redact writes of four photos: with a face that was doubted, with none, withheld, not to be read."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    output.mkdir()
    rows = []
    for name, faces in (
        (HOSTILE, [FACE | {"doubted": True, "score": 0.3, "rule": "</script><script>hacked()"}]),
        ("b.jpg", []),
    ):
        path = source / name
        Image.new("RGB", (160, 120), SECRET).save(path)
        safe = io.BytesIO()
        Image.new("RGB", (160, 120), (20, 20, 250)).save(safe, "JPEG")
        (output / f"{path.name}.jpg").write_bytes(safe.getvalue())
        found = path.stat()
        row: dict[str, Any] = {"uri": str(path), "size": found.st_size, "modified": found.st_mtime, "faces": faces}
        row |= {"output": f"{path.name}.jpg", "sha256": hashlib.sha256(safe.getvalue()).hexdigest(), "base": "1"}
        rows.append(row | {"fingerprint": "1"})
    Image.new("RGB", (160, 120), SECRET).save(source / "c.jpg")
    reason = "withheld: in the redacted photo face 1 (30 x 40 at 50, 60) is still recognised"
    failed = [
        {"uri": str(source / "c.jpg"), "stage": "redact", "error": "PrivacyError", "message": reason},
        {"uri": str(source / "d.jpg"), "stage": "read", "error": "OSError", "message": "no permission"},
    ]
    for name, lines in (("index", rows), ("failures", failed)):
        (output / f"{name}-1.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    record: dict[str, Any] = {name: {} for name in ("settings", "versions", "counts", "milliseconds")}
    record |= {"run": "1", "command": "redact", "started": "now", "seconds": 1, "engine": {"workers": 1}}
    (output / "run.json").write_text(json.dumps(record))
    return output


def shown(page: Path) -> dict[str, Any]:
    """What the page's script is given."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def colour(photo: dict[str, Any]) -> list[float]:
    data = base64.b64decode(photo["picture"].removeprefix("data:image/webp;base64,"))
    return list(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean((0, 1)))


def test_the_page_shows_the_most_doubtful_first(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "review.html"
    assert review(run, "--output", page) == 0
    text = page.read_text()
    assert "<img src=x" not in text
    assert "<script>hacked" not in text
    assert "default-src &#39;none&#39;" in text
    assert "connect-src" not in text
    photos = shown(page)["photos"]
    assert [Path(photo["uri"]).name for photo in photos] == ["c.jpg", HOSTILE, "b.jpg"]
    assert [photo["doubts"] for photo in photos] == [["withheld"], ["1 in doubt", "score 0.30"], ["no face found"]]
    withheld, doubted, _ = photos
    assert (withheld["picture"], withheld["frame"], withheld["places"]) == ("", [160, 120], [[50, 60, 30, 40]])
    assert withheld["releasable"]
    assert not doubted["releasable"]
    assert doubted["frame"] == [160, 120]
    assert colour(doubted)[2] > 200, "the safe photo, not the original"
    assert review(run, "--output", page) == 0  # an older page is replaced


def test_faces_are_shown_to_those_who_may_see_them(run: Path, tmp_path: Path) -> None:
    assert review(run, "--output", tmp_path / "review.html", "--show-faces") == 0
    assert all(colour(photo)[0] > 200 for photo in shown(tmp_path / "review.html")["photos"])
    assert "This page shows faces" in (tmp_path / "review.html").read_text()
    (tmp_path / "in" / "b.jpg").write_bytes(b"changed")
    assert review(run, "--output", tmp_path / "review.html", "--show-faces") == 0
    photo = shown(tmp_path / "review.html")["photos"][-1]
    assert (photo["picture"], photo["note"]) == ("", "the original has changed since the run")


def test_a_file_that_is_not_the_one_written_is_not_shown(run: Path, tmp_path: Path) -> None:
    (run / "b.jpg.jpg").write_bytes((tmp_path / "in" / "b.jpg").read_bytes())
    assert review(run, "--output", tmp_path / "review.html") == 0
    assert not shown(tmp_path / "review.html")["photos"][-1]["picture"]


def test_a_dry_run_is_shown_without_the_faces_that_go(run: Path, tmp_path: Path) -> None:
    for path in run.iterdir():
        path.unlink()
    path = tmp_path / "in" / "b.jpg"
    pixels = np.full((120, 160, 3), 128, np.uint8)
    pixels[12:52, 10:40], pixels[60:100, 100:130] = SECRET, SECRET
    Image.fromarray(pixels).save(path, quality=100)
    kept = FACE | {"box": [100.0, 60.0, 30.0, 40.0], "action": "keep", "decided": "keep"}
    row = {"uri": str(path), "size": path.stat().st_size, "modified": path.stat().st_mtime, "faces": [FACE, kept]}
    (run / "dry-run-photos.jsonl").write_text(json.dumps(row) + "\nno row\n")
    assert review(run, "--output", tmp_path / "review.html") == 0
    (photo,) = shown(tmp_path / "review.html")["photos"]
    data = base64.b64decode(photo["picture"].removeprefix("data:image/webp;base64,"))
    seen = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    red = (seen[..., 0] - seen[..., 1]) > 100
    assert not red[12:52, 10:40].any(), "the face that would go"
    assert red[64:96, 104:126].all(), "the face that would stay"


def test_what_cannot_be_reviewed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert review(tmp_path, "--output", tmp_path / "review.html") == 2
    assert "no output of mien redact" in capsys.readouterr().err
    assert review(run) == 2
    assert "--output FILE.html or --serve" in capsys.readouterr().err
    (tmp_path / "mine.html").write_text("mine")
    assert review(run, "--output", tmp_path / "mine.html") == 2
    assert (tmp_path / "mine.html").read_text() == "mine"
    (run / FILE).write_text('{"uri": "/in/x.jpg", "do": "withhold"}\n')
    capsys.readouterr()
    assert review(run, "--output", tmp_path / "review.html") == 2
    assert f"{FILE}: /in/x.jpg: line 1: modified is missing" in capsys.readouterr().err
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"command": "compress"}))
    assert review(run, "--output", tmp_path / "review.html") == 2
    assert "only what redact wrote" in capsys.readouterr().err


@contextlib.contextmanager
def served(*folders: Path) -> Iterator[ReviewServer]:
    one = Review([str(folder) for folder in folders], False, 1000)
    with ReviewServer(one.served, one.look, one.save) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(
    server: ReviewServer, place: str, body: bytes | None = None, token: str | None = None, **headers: str
) -> tuple[int, bytes, Any]:
    """Status, body and headers of an answer; place: behind the token."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    sent = {"Content-Type": "application/jsonl"} if body is not None else {}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    path = f"/{server.token if token is None else token}/{place}"
    connection.request("GET" if body is None else "POST", path, body, sent)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data, answer.headers


def correction(path: Path, do: str = "confirm", **more: Any) -> dict[str, Any]:
    found = path.stat()
    return {"uri": str(path), "size": found.st_size, "modified": found.st_mtime, "do": do, **more}


def lines(*some: dict[str, Any]) -> bytes:
    return "".join(f"{json.dumps(one)}\n" for one in some).encode()


def test_who_has_the_address_is_served(run: Path) -> None:
    with served(run) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert len(server.token) >= 40
        status, page, headers = ask(server, "")
        assert (status, headers["Referrer-Policy"], headers["Cache-Control"]) == (200, "no-referrer", "no-store")
        assert b"connect-src" in page
        status, picture, headers = ask(server, "picture/1")
        assert (status, picture[8:12], headers["X-Frame"]) == (200, b"WEBP", "160 120")
        assert ask(server, "picture/0")[1] == b"withheld: nothing of it is shown"
        for place in ("picture/3", "picture/-1", "picture/%31", "picture/", "../run.json"):
            assert ask(server, place)[0] == 404, place
        for token in ("", "x", server.token[:-1], f"{server.token}x"):
            assert ask(server, "", token=token)[0] == 403
        for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", ""):
            assert ask(server, "", Host=host)[0] == 403
        with socket.create_connection(("127.0.0.1", server.server_port), 20) as plain:
            plain.sendall(f"GET /\u00e9/ HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
            assert plain.recv(100).split()[1] == b"403"
        assert ask(server, "", Host=f"localhost:{server.server_port}")[0] == 200


def test_what_is_saved(run: Path, tmp_path: Path) -> None:
    photo = tmp_path / "in" / "b.jpg"
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    drawn = correction(photo, "add", frame=[160, 120], box=[1.0, 2.0, 30.0, 40.0], who="A. B.")
    with served(run) as server:
        status, digest, _ = ask(server, "corrections", lines(drawn))
        assert status == 200
        assert (run / FILE).read_bytes() == lines(drawn)
        wrong = [
            (lines(drawn) + b"{", 400),
            (lines(drawn | {"box": [1, 2, 300, 40]}), 400),
            (lines(drawn | {"size": 7}), 400),
            (lines(drawn | {"uri": "/etc/passwd"}), 400),
            (lines(correction(photo, "withhold"), correction(photo, "release")), 400),
            (b"\xff\xfe", 400),
        ]
        for body, wanted in wrong:
            assert ask(server, "corrections", body, If_Match=digest.decode())[0] == wanted, body
        assert ask(server, "corrections", b"")[0] == 409, "saved elsewhere meanwhile"
        match = {"If_Match": digest.decode()}
        assert ask(server, "corrections", b"", Origin="http://evil.example", **match)[0] == 403
        assert ask(server, "corrections", b"", Content_Type="text/plain", **match)[0] == 415
        assert ask(server, "corrections", b"", Content_Length="99999999999", **match)[0] == 413
        assert ask(server, "corrections", b"", Content_Length="-1", **match)[0] == 411
        assert ask(server, "corrections", b"", token="x", **match)[0] == 403
        assert ask(server, "corrections", b"", Host="evil.example", **match)[0] == 403
        assert ask(server, FILE, b"", **match)[0] == 404
        assert (run / FILE).read_bytes() == lines(drawn)
        assert (
            ask(server, "corrections", b"", Origin=server.url.rpartition("/")[0][: -len(server.token) - 1], **match)[0]
            == 200
        )
        assert (run / FILE).read_bytes() == b""
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.name != FILE} == before


def test_corrections_of_photos_that_are_not_shown_stay(run: Path, tmp_path: Path) -> None:
    old = {"uri": "/in/gone.jpg", "size": 1, "modified": 2.0, "do": "withhold"}
    (run / FILE).write_bytes(lines(old))
    new = correction(tmp_path / "in" / "c.jpg", "release")
    with served(run) as server:
        found = json.loads(re.findall(r'id="data">(.*?)</script>', ask(server, "")[1].decode(), re.DOTALL)[0])
        assert found["corrections"] == [old]
        assert ask(server, "corrections", lines(new, old), If_Match=found["digest"])[0] == 200
        found = json.loads(re.findall(r'id="data">(.*?)</script>', ask(server, "")[1].decode(), re.DOTALL)[0])
        assert found["corrections"] == [new, old], "loaded again, the page goes on where it was saved"
    assert (run / FILE).read_bytes() == lines(new, old)


@needs_chromium
@pytest.mark.slow
def test_the_page_is_used_by_keys_and_mouse(run: Path, tmp_path: Path) -> None:
    assert review(run, "--output", tmp_path / "review.html") == 0
    with Browser((tmp_path / "review.html").as_uri()) as page:
        page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down"))
        page.wait("document.getElementById('name').textContent.endsWith('c.jpg')")
        assert page.evaluate("document.querySelectorAll('#boxes rect.place').length") == 1
        assert page.evaluate("document.getElementById('picture').hasAttribute('src')") is False
        page.press("r")
        assert page.evaluate("document.getElementById('ask').open")
        page.press("Enter")  # "no" has the focus: releasing is never one key away
        assert page.evaluate("text()") == ""
        page.press("r")
        page.press("y")
        page.press("ArrowDown")
        page.wait("document.getElementById('picture').naturalWidth === 160")
        page.press("ArrowRight")
        page.press("x")
        page.press("Escape")
        assert json.loads(page.evaluate("text()"))["do"] == "release"
        page.press("x")
        page.press("y")
        assert page.evaluate("document.querySelectorAll('#boxes rect.removed').length") == 1
        page.press("u")
        page.press("3")  # fill, pixelate, blur
        left, top, scale = page.evaluate(
            "(() => { const r = document.getElementById('boxes').getBoundingClientRect();"
            " return [r.left, r.top, r.width / 160] })()"
        )
        page.drag((left + 100 * scale, top + 50 * scale), (left + 140 * scale, top + 100 * scale))
        page.press("a")
        page.press("ArrowLeft")
        page.press("Enter")
        page.press("u")
        page.evaluate("document.getElementById('who').focus()")
        page.type("A. B.")
        page.press("Enter")
        page.press("c")
        page.press("w")
        page.press("s")
        page.wait("document.getElementById('told').textContent === 'downloaded'")
        page.wait("true")
        saved = tmp_path / "down" / FILE
        for _ in range(100):
            if saved.exists():
                break
            page.evaluate("new Promise((done) => setTimeout(done, 50))")
        found = [json.loads(one) for one in saved.read_text().splitlines()]
        assert page.evaluate("typeof hacked") == "undefined"
    kinds = [(Path(one["uri"]).name[0], one["do"], one.get("action", ""), one.get("who", "")) for one in found]
    assert kinds == [
        ("c", "release", "", ""),
        ("<", "action", "blur", ""),
        ("<", "add", "fill", ""),
        ("<", "confirm", "", "A. B."),
        ("b", "withhold", "", "A. B."),
    ]
    assert found[1]["box"] == FACE["box"]
    assert np.allclose(found[2]["box"], [100, 50, 40, 50], atol=1.5)
    assert found[2]["frame"] == [160, 120]
