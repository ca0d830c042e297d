"""The setting `hosts`: where the processes of a run meet, and which one this is."""

import re

OFF = "off"
ADVICE = (
    "Write ADDRESS:PORT,N,I: where process 0 is, how many processes there are, and"
    " which one this is, from 0, as in '10.0.0.1:9876,2,0'; or 'off' for one process."
)


def parsed(text: str) -> tuple[str, int, int, int] | None:
    """Returns address, port, number of processes and index; None for "off".

    Raises:
        ValueError: the text says something else.
    """
    if text == OFF:
        return None
    match = re.fullmatch(r"(\[[^\]]+\]|[^\s,:\[\]]+):(\d+),(\d+),(\d+)", text)
    if match is None:
        raise ValueError(f"config.hosts = {text!r} is not understood. {ADVICE}")
    port, count, index = map(int, match.groups()[1:])
    wrong = ""
    if not 1 <= port <= 65535:
        wrong = f"{port} is no port; those are 1 to 65535"
    elif count < 1:
        wrong = "there is at least one process"
    elif index >= count:
        wrong = (
            f"there is no process {index} of {count}; they are numbered from 0 to"
            f" {count - 1}"
        )
    if wrong:
        raise ValueError(f"config.hosts = {text!r}: {wrong}. {ADVICE}")
    return match[1].strip("[]"), port, count, index
