"""Notices of clouds that this machine will be taken away, watched by a small thread.

Clouds say so half a minute to some minutes before, at an address that only the machine
itself can ask. A notice stops a run as SIGTERM does: it saves the step and leaves.

Reference: cloud.google.com/compute/docs/metadata/predefined-metadata-keys (preempted,
maintenance-event); docs.aws.amazon.com/AWSEC2/latest/UserGuide, "Spot Instance
interruption notices"; learn.microsoft.com/azure/virtual-machines, "Scheduled Events".
"""

import contextlib
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from yolojax.training.stop import StopRequest

log = logging.getLogger("yolojax")

ADDRESS = "http://169.254.169.254"  # of the machine itself, in each of the clouds
EVERY_S = 5.0  # what EC2 advises; the shortest warning, GCE's, is 30 s
PATIENCE_S = 3.0  # for an answer
_GOOGLE = "Metadata-Flavor"
_LEASE = ("X-aws-ec2-metadata-token-ttl-seconds", "21600")
_EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
_NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
_ENDS = ("Preempt", "Terminate", "Reboot", "Redeploy")  # and not Freeze: it goes on

# No proxy: what it sees is not this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Look = Callable[[], str | None]  # -> what the cloud says; None: that all is well


class Gce:
    """Google Compute Engine."""

    def __init__(self, address: str) -> None:
        """Knows where to ask."""
        self._base = f"{address}/computeMetadata/v1/instance/"

    def __call__(self) -> str | None:
        """Returns the notice; raises OSError or ValueError if none can be had."""
        if self._value("preempted") == "TRUE":
            return "GCE preempts this machine"
        event = self._value("maintenance-event")
        if event.startswith("TERMINATE"):  # one that moves the machine lets it go on
            return f"GCE maintains this machine ({event})"
        return None

    def _value(self, name: str) -> str:
        text, headers = _asked(self._base + name, {_GOOGLE: "Google"})
        if headers.get(_GOOGLE) != "Google":
            raise ValueError("no metadata server of GCE")
        return text.strip()


class Ec2:
    """Amazon EC2, by its metadata service of version 2."""

    def __init__(self, address: str) -> None:
        """Knows where to ask."""
        self._base = f"{address}/latest/"
        self._token: str | None = None

    def __call__(self) -> str | None:
        """Returns the notice; raises OSError or ValueError if none can be had."""
        if self._token is None:
            lease = dict([_LEASE])
            self._token = _asked(f"{self._base}api/token", lease, method="PUT")[0]
        try:
            text, _ = _asked(
                f"{self._base}meta-data/spot/instance-action",
                {"X-aws-ec2-metadata-token": self._token},
            )
        except urllib.error.HTTPError as error:
            if error.code == 404:  # so it says that there is none
                return None
            self._token = None  # perhaps it has run out: a new one next time
            raise
        told = json.loads(text)
        return f"EC2 will {told['action']} this machine at {told['time']}"


class Azure:
    """Microsoft Azure."""

    def __init__(self, address: str) -> None:
        """Knows where to ask."""
        self._address = address
        self._name: str | None = None

    def __call__(self) -> str | None:
        """Returns the notice; raises OSError or ValueError if none can be had."""
        header = {"Metadata": "true"}
        events = json.loads(_asked(self._address + _EVENTS, header)[0])["Events"]
        for event in events:  # also of other machines of a set
            if event["EventType"] not in _ENDS:
                continue
            if self._name is None:
                self._name = _asked(self._address + _NAME, header)[0].strip()
            if self._name in event["Resources"]:
                kind, when = event["EventType"], event.get("NotBefore") or "once"
                return f"Azure will {kind.lower()} this machine at {when}"
        return None


CLOUDS: dict[str, Callable[[str], Look]] = {"GCE": Gce, "EC2": Ec2, "Azure": Azure}


@contextlib.contextmanager
def watching(config: Any, stop: StopRequest) -> Iterator[None]:
    """Watches the notices of whatever cloud this is, if the config wants that.

    Args:
        config: the run's settings.
        stop: is told of a notice.
    """
    if not config.preemption_notices:
        yield
        return
    ended = threading.Event()
    address = (config.preemption_address or ADDRESS).rstrip("/")
    thread = threading.Thread(
        target=watch,
        args=(address, stop.notice, ended),
        name="preemption notices",
        daemon=True,  # a question without an answer must not hold a run that ends
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=1)


def watch(
    address: str,
    tell: Callable[[str], None],
    ended: threading.Event,
    every: float = EVERY_S,
) -> None:
    """Asks until there is a notice or nobody wants to know any more.

    Args:
        address: of the metadata service, "http://169.254.169.254".
        tell: is told the notice.
        ended: ends it.
        every: seconds between questions.
    """
    clouds = {name: make(address) for name, make in CLOUDS.items()}
    found: str | None = None
    warned = False
    while not ended.is_set():
        for name, look in clouds.items():
            try:
                notice = look()
            except (OSError, ValueError, KeyError, TypeError):
                continue  # another cloud's, or it does not answer just now
            if found is None:
                log.info("preemption_notices: those of %s are watched", name)
            found = name
            if notice is not None:
                tell(notice)
                return
            break
        if found is None and not warned:
            warned = True
            log.warning(
                "preemption_notices = True, but no metadata service of %s answers at"
                " %s: the run goes on, and asks again every %g s",
                ", ".join(clouds),
                address,
                every,
            )
        if found is not None:
            clouds = {found: clouds[found]}
        ended.wait(every)


def _asked(
    url: str, headers: dict[str, str], method: str = "GET"
) -> tuple[str, dict[str, str]]:
    """Returns text and headers of an answer."""
    request = urllib.request.Request(url, headers=headers, method=method)
    with _direct.open(request, timeout=PATIENCE_S) as answer:
        return answer.read().decode(), dict(answer.headers)
