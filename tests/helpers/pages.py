"""The documentation as it stands: pages, links, code blocks and command lines."""

import re
import shlex
import sys
import warnings

from places import ROOT

DOCS = ROOT / "docs"
PAGES = (
    ROOT / "README.md",
    *sorted(DOCS.glob("*.md")),
    *sorted((ROOT / "experiments").glob("*/README.md")),
    ROOT / "tests" / "golden" / "README.md",
)
COMMAND = re.compile(r"(python -m yolojax(\.main)?|(^|(?<=[;&|] ))yolojax) ")


def name_of(path):
    """Returns a page's path within the repository."""
    return str(path.relative_to(ROOT))


def code_blocks(text):
    """Yields (language, title, code) of the fenced blocks of a page.

    The title is what stands behind the language: ```python my_block.py
    """
    for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)^```$", text, re.MULTILINE):
        language, _, title = match[1].partition(" ")
        yield language, title.strip(), match[2]


def prose(text):
    """Returns a page without its fenced blocks."""
    return re.sub(r"^```.*\n(?:.*\n)*?^```$", "", text, flags=re.MULTILINE)


def anchors(text):
    """Returns the anchors that a page's headings have."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    }


def links(text):
    """Returns the targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def command_lines(text):
    """Yields the words of each command of a page that starts the program.

    They stand in blocks of shell code, or between backticks.
    """
    lines = []
    for language, _, code in code_blocks(text):
        if language == "bash":
            lines += code.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]+)`", prose(text))
    for line in lines:
        if found := COMMAND.search(line):
            rest = line[found.end() :]
            words = shlex.split(rest.replace("$seed", "0"), comments=True)
            if words:
                yield words


def named_settings(text):
    """Returns the settings that a page names as flags."""
    return set(re.findall(r"--config\.(\w+)", text)) - {"KEY", "key"}


def checked(words):
    """Raises ValueError unless a command line of a page would be accepted.

    Its data and weights are not looked for; what it says of them is.
    """
    from absl import flags
    from ml_collections import config_flags

    from yolojax import config as config_lib
    from yolojax.config import command_line
    from yolojax.config.keys import COMMANDS, KEYS

    argv = command_line.resolved(["main.py", *words], lambda path: None)
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", None, flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_enum("mode", "train", list(COMMANDS), "", flag_values=values)
    flags.DEFINE_bool("debug", False, "", flag_values=values)
    before = list(sys.argv)
    sys.argv[:] = argv  # where config_flags looks for settings
    try:
        with warnings.catch_warnings():
            # config_flags imports the file in a way that Python is giving up.
            warnings.simplefilter("ignore", DeprecationWarning)
            rest = values(argv)
            settings = dict(config.value.items())
    except Exception as error:
        raise ValueError(f"{' '.join(words)}: {error}") from error
    finally:
        sys.argv[:] = before
    if rest[1:]:
        raise ValueError(f"{' '.join(words)}: {rest[1:]} are no flags")
    mode = values["mode"].value
    config_lib.check(settings, mode)
    unread = {
        key
        for key in named_settings(" ".join(argv)) - {"data"}
        if mode not in KEYS[key].commands
    }
    if unread:
        raise ValueError(f"{' '.join(words)}: --mode {mode} does not read {unread}")
