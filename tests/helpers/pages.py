"""The documentation as it stands: pages, links, code blocks and command lines."""

import re
import shlex

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
