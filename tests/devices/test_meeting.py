"""Processes that meet: who is missing or does not fit is said to all of them."""

import contextlib
import os
import socket
import threading

import pytest

from yolojax.config.device import parsed_hosts
from yolojax.devices import meeting, seats

CARD = {"config.lr0": 0.01}


def free_port():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


def said(*visitors, port=None, seconds=5.0):
    """Returns what each of the (index, count, card) was told, in that order."""
    port = port or free_port()
    told = [None] * len(visitors)

    def come(place, index, count, card):
        seat = meeting.Seat("127.0.0.1", port, count, index)
        try:
            peers, lines = meeting.meet(seat, card, seconds)
            told[place] = [peer.index for peer in peers]
            for line in lines.values():
                line.close()
        except ValueError as error:
            told[place] = str(error)

    threads = [
        threading.Thread(target=come, args=(place, *visitor))
        for place, visitor in enumerate(visitors)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch):
    monkeypatch.setattr(meeting, "LINGER_SECONDS", 0.3)
    monkeypatch.setattr(meeting, "PAUSE_SECONDS", 0.02)


def test_all_who_come_know_each_other():
    assert said((2, 3, CARD), (0, 3, CARD), (1, 3, CARD)) == [[0, 1, 2]] * 3


def test_everybody_hears_who_is_missing():
    told = said((0, 4, CARD), (2, 4, CARD), seconds=0.5)
    assert told[0] == told[1]
    assert told[0].startswith("processes 1, 3 of 4 did not come to 127.0.0.1:")


def test_a_missing_first_process_is_named_with_its_address():
    (told,) = said((1, 2, CARD), seconds=0.3)
    assert told.startswith("process 0 of 2 is missing: process 1 could not reach it at")


def test_two_of_one_index_are_named_to_all():
    told = said((0, 3, CARD), (1, 3, CARD), (1, 3, CARD))
    assert all("there are two of index 1: process 1 (pid" in text for text in told)


def test_other_numbers_of_processes_and_other_settings_are_refused_everywhere():
    told = said((0, 2, CARD), (1, 3, CARD))
    assert told[0] == told[1]
    assert "as one of 3 processes" in told[0]
    told = said((0, 2, CARD), (1, 2, {"config.lr0": 0.02}))
    assert told[0] == told[1]
    assert "process 1 (pid" in told[0]
    assert "has config.lr0 = 0.02, process 0 (pid" in told[0]


def test_a_taken_port_is_said_at_once():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        (told,) = said((0, 2, CARD), port=port)
        assert "the port is taken" in told
        (told,) = said((1, 2, CARD), port=port, seconds=0.2)
        assert "does not answer" in told


def test_strangers_at_the_port_are_left_alone():
    port = free_port()
    stranger = threading.Thread(target=_knock, args=(port,))
    stranger.start()
    assert said((0, 2, CARD), (1, 2, CARD), port=port) == [[0, 1]] * 2
    stranger.join()


def _knock(port):
    for _ in range(100):
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(b"GET / HTTP/1.1\n")
            return


def test_whoever_goes_without_a_word_is_missed():
    here, there = socket.socketpair()
    seat = meeting.Seat("127.0.0.1", 1, 2, 0)
    peers = [meeting.Peer(i, 2, "host", 7 + i, {}) for i in range(2)]
    missed, told = threading.Event(), []

    def note(*words):
        told.extend(words)
        missed.set()

    watch = meeting.Watch(seat, peers, {1: meeting.Line(here)}, note)
    there.close()
    assert missed.wait(5)
    assert told == [
        "process 1 (pid 8 on host) has gone: it was killed, or its machine is down",
        True,
    ]
    watch.part()
    here.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1:9876,2,2", "there is no process 2 of 2"),
        ("10.0.0.1:99999,2,0", "99999 is no port"),
        ("10.0.0.1,2,0", "is not understood"),
        ("10.0.0.1:1,0,0", "at least one process"),
    ],
)
def test_what_hosts_may_say(text, words):
    with pytest.raises(ValueError, match=words):
        parsed_hosts(text)
    assert parsed_hosts("[::1]:9876,2,1") == ("::1", 9876, 2, 1)


def test_clusters_are_asked_only_where_they_are(monkeypatch):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    assert seats.seat_of(None, 1.0) is None
    assert seats.seat_of("off", 1.0) is None
    slurm = {
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_NODELIST": "node[007-011]",
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    seat = seats.seat_of(None, 1.0)
    assert (seat.address, seat.count, seat.index) == ("node007", 4, 3)
    assert seat.local_devices == (1,)
    for name, value in {"ADDRESS": "a", "PORT": "5"}.items():
        monkeypatch.setenv(f"COORDINATOR_{name}", value)
    monkeypatch.setenv("NUM_PROCESSES", "2")
    monkeypatch.setenv("PROCESS_ID", "1")
    assert seats.seat_of(None, 1.0) == meeting.Seat("a", 5, 2, 1)


def test_many_meet_with_long_cards():
    card = {f"config.key{i}": "x" * 90 for i in range(60)}
    visitors = [(index, 240, card) for index in range(240)]
    assert said(*visitors, seconds=30.0) == [list(range(240))] * 240


def test_a_file_of_a_high_number_can_be_read():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        with contextlib.closing(socket.create_connection(server.getsockname())) as left:
            connection, _ = server.accept()
            high = 1500  # `select` knows those below 1024
            meeting._make_room(high)
            os.dup2(connection.detach(), high)
            with contextlib.closing(socket.socket(fileno=high)) as right:
                meeting.Line(left).send({"a": 1})
                assert meeting.Line(right).receive(5.0) == {"a": 1}
