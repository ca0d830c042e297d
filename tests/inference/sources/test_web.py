"""What is at an address: pictures within limits, videos, streams, errors."""

import numpy as np
import pytest
from loopback import Answer, encoded

from yolojax.inference.sources import web
from yolojax.inference.sources.web import fetch, kind_of

PICTURE = np.full((4, 6, 3), 90, np.uint8)
PNG = encoded(PICTURE, ".png")


def got(url, seconds=5.0, limit=10**6):
    return fetch(url, seconds=seconds, limit=limit)


@pytest.mark.parametrize("name", ["a.png", "a.jpg?size=3", "picture"])
def test_a_picture_is_fetched(serve, name):
    url = serve(Answer(PNG, "image/png")) + name
    assert kind_of(url, seconds=5) == "image"
    np.testing.assert_array_equal(got(url), PICTURE)


def test_a_picture_of_unknown_length_is_fetched(serve):
    url = serve(Answer(PNG, "image/png", announced=None)) + "a.png"
    np.testing.assert_array_equal(got(url), PICTURE)


@pytest.mark.parametrize(
    ("answer", "limits", "message"),
    [
        (Answer(b"", status=404), {}, "the server answers 404 Not Found"),
        (Answer(PNG, forever=0.01), {"seconds": 0.3}, "did not come within 0.3 s"),
        (Answer(PNG, stall=5), {"seconds": 0.1}, "cannot be downloaded: .*timed out"),
        (Answer(PNG, late=5), {"seconds": 0.1}, "cannot be downloaded: timed out"),
        (Answer(PNG), {"limit": 50}, "has more than 4.7.*e-05 MiB"),
        (Answer(bytes(2**20), announced=None), {"limit": 2**19}, "more than 0.5 MiB"),
        (Answer(PNG, announced=len(PNG) + 9), {}, "the connection ended 9 bytes too"),
        (Answer(b"<html>", "text/html"), {}, r"no readable picture \(6 bytes\)"),
        (Answer(b""), {}, r"no readable picture \(0 bytes\)"),
        (Answer(b"", status=302, to="file:///etc/passwd"), {}, "not allowed"),
        (Answer(b"", status=302, to="/again.png"), {}, "infinite loop"),
    ],
)
def test_what_cannot_be_had_is_told(serve, answer, limits, message):
    with pytest.raises(ValueError, match=message):
        got(serve(answer) + "again.png", **limits)


def test_a_password_is_sent_to_who_asks_for_it(serve):
    answer = Answer(PNG, "image/png", login="Basic bWU6c2VAY3JldA==")
    url = serve(answer) + "a.png"
    with pytest.raises(ValueError, match="answers 401"):
        got(url)
    np.testing.assert_array_equal(got(url.replace("//", "//me:se%40cret@")), PICTURE)


def test_no_server_is_told():
    with pytest.raises(ValueError, match="cannot be downloaded: .*refused"):
        got("http://127.0.0.1:9/a.png")


@pytest.mark.parametrize("address", ["http://", "http:///a.png", "http://a b/c.png"])
def test_an_address_that_is_none_is_told(address):
    with pytest.raises(ValueError, match="cannot be downloaded"):
        got(address)


@pytest.mark.parametrize(
    ("name", "answer", "kind"),
    [
        ("a.mp4", Answer(b"1"), "video"),
        ("a.MP4", Answer(b"1", announced=None), "video"),
        ("download?id=3", Answer(b"1", "video/mp4"), "video"),
        ("live", Answer(b"1", "video/mp4", announced=None), "stream"),
        ("camera", Answer(b"1", "multipart/x-mixed-replace"), "stream"),
    ],
)
def test_what_is_no_picture(serve, name, answer, kind):
    assert kind_of(serve(answer) + name, seconds=5) == kind


def test_a_web_page_and_a_missing_video_are_told(serve):
    with pytest.raises(ValueError, match="there is a web page"):
        kind_of(serve(Answer(b"<html>", "text/html; charset=utf-8")), seconds=5)
    with pytest.raises(ValueError, match="answers 404"):
        kind_of(serve(Answer(b"", status=404)) + "a.mp4", seconds=5)


def test_the_time_of_a_silent_server_is_limited(monkeypatch, serve):
    monkeypatch.setattr(web, "_QUIET", 0.1)
    with pytest.raises(ValueError, match="timed out"):
        got(serve(Answer(PNG, late=5)) + "a.png", seconds=60)
