"""What can be wrong with one of two processes, each as a way to start them."""

import contextlib
import os
import shutil
import socket
from pathlib import Path

from runs import ROOT, free_port

SECONDS = 30  # hosts_timeout
MISSING = 5  # where somebody is
POWERS = ("-dac_override", "-dac_read_search")  # of root, to look into any folder


def cases(runs):
    """Returns what is wrong -> (name of the run, ...) -> its processes.

    Args:
        runs: where they are.
    """

    def pair(name, *, port=None, seats=("2,0", "2,1"), each=({}, {}), **settings):
        """Starts two processes, the second as the first but for what is given."""
        port = port or free_port()
        ports = port if isinstance(port, tuple) else (port,) * len(seats)
        found = []
        for index, (seat, own) in enumerate(zip(seats, each, strict=True)):
            own = dict(own)
            how = own.pop("how", {})
            values = {"device": "cpu:1", "hosts_timeout": SECONDS} | settings | own
            values["hosts"] = f"127.0.0.1:{ports[index]},{seat}"
            found.append(runs.start(name, index, runs.words(name, **values), **how))
        return found

    few = {"hosts_timeout": MISSING}
    other = runs.data("detect", "other", seed=4)

    def alone(name):
        return pair(name, seats=("2,0",), each=({},), **few)

    def last_alone(name):
        return pair(name, seats=("2,1",), each=({},), **few)

    return {
        "another port": lambda name: pair(name, port=(free_port(), free_port()), **few),
        "a port that something else holds": lambda name, port: pair(
            name, port=port, **few
        ),
        "an index outside": lambda name: pair(name, seats=("2,0", "2,2"), **few),
        "two of index 1": lambda name: pair(
            name, seats=("3,0", "3,1", "3,1"), each=({}, {}, {})
        ),
        "two of index 0": lambda name: pair(name, seats=("2,0", "2,0"), **few),
        "other numbers of processes": lambda name: pair(name, seats=("2,0", "3,1")),
        "another setting": lambda name: pair(name, each=({}, {"lr0": 0.5})),
        "other data": lambda name: pair(name, each=({}, {"data": other})),
        "other code": lambda name, root: pair(name, each=({}, {"how": {"root": root}})),
        "other numbers of devices": lambda name: pair(
            name, each=({}, {"device": "cpu:2"})
        ),
        "a folder that only process 0 may look into": lambda name, wrap: pair(
            name, each=({}, {"how": {"wrap": wrap}})
        ),
        "a folder that is another one for process 1": lambda name, wrap: pair(
            name, each=({}, {"how": {"wrap": wrap}})
        ),
        "other numbers of devices, as they are found": lambda name: pair(
            name,
            device="cpu",
            each=({}, {"how": {"environment": {"JAX_NUM_CPU_DEVICES": "2"}}}),
        ),
        "process 1 is missing": alone,
        "process 0 is missing": last_alone,
        "a batch of 3 for 2 x 2 devices (padded: no error)": lambda name: pair(
            name, device="cpu:2", batch=3, epochs=1, fraction=6
        ),
    }


@contextlib.contextmanager
def prepared(what, runs, name):
    """Gives what else a case needs to be started with.

    Args:
        what: the case.
        runs: where it is.
        name: of its run.
    """
    folder = runs.folder / name
    if what.startswith("a port"):
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield (server.getsockname()[1],)
    elif what == "other code":
        root = runs.folder / "other_code"
        if not root.exists():
            shutil.copytree(ROOT / "yolojax", root / "yolojax")
            with open(root / "yolojax" / "streams.py", "a", encoding="utf-8") as file:
                file.write("# changed\n")
        yield (Path(root),)
    elif "look into" in what:
        folder.mkdir(mode=0o700)
        os.chown(folder, 65534, 65534)
        yield (("setpriv", f"--bounding-set={','.join(POWERS)}"),)
    elif "another one" in what:
        folder.mkdir()
        mount = f'mount -t tmpfs none {folder} && exec "$@"'
        yield (("unshare", "-m", "sh", "-c", mount, "sh"),)
    else:
        yield ()
