"""A video by its address: fetched once and kept, refused in one line."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from act2see.storage.cache import Cache
from cli_fakes import Act2See, fakes

GREY = ("--retriever", "tiny_encoder:Grey", "--retrieve-fps", "10")


class Site:
    """A web server on this machine: `/clip.mp4`, `/page.html`, and a list of what was asked for."""

    def __init__(self, clip: Path) -> None:
        asked = self.asked = list[str]()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                content, kind = {"/clip.mp4": (clip.read_bytes(), "video/mp4"), "/page.html": (b"<html>", "text/html")}.get(self.path, (b"", ""))
                self.send_response(200 if content else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def site(clip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Site(clip)
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_video_is_fetched_once_for_every_command(act2see: Act2See, site: Site) -> None:
    url = f"{site.address}/clip.mp4"
    assert act2see("retrieve", url, "grey 120", *GREY).out.startswith("1.000 s")
    assert act2see("index", url, *GREY).code == 0
    assert act2see("ask", url, "What is it?", *fakes("Free")).code == 0
    assert site.asked == ["/clip.mp4"]
    assert any(entry.name.startswith("downloads/") and entry.name.endswith(".mp4") for entry in Cache().entries())
    act2see("cache", "clear")
    assert act2see("retrieve", url, "grey 120", *GREY).code == 0
    assert site.asked == ["/clip.mp4"] * 2


def test_without_the_cache_nothing_is_kept(act2see: Act2See, site: Site, tmp_path: Path) -> None:
    for _ in range(2):
        assert act2see("retrieve", f"{site.address}/clip.mp4", "grey 120", *GREY, "--no-cache").code == 0
    assert site.asked == ["/clip.mp4"] * 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("path", "part"), [("/page.html", "it is a web page"), ("/nothing.mp4", "404")])
def test_what_is_no_video_is_one_line_and_not_kept(act2see: Act2See, site: Site, path: str, part: str) -> None:
    for _ in range(2):
        assert part in act2see("retrieve", site.address + path, "grey 120", *GREY).complaint
    assert site.asked == [path] * 2
    assert Cache().entries() == []


def test_other_schemes_are_names_of_files(act2see: Act2See) -> None:
    for named in ("ftp://127.0.0.1/clip.mp4", "file:///etc/passwd", "data:video/mp4;base64,AAAA"):
        assert "no such file" in act2see("retrieve", named, "grey 120", *GREY).complaint
