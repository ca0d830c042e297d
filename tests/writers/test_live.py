"""Several lines that stay in place on a terminal, and summaries in a file."""

import io

from yolojax.writers import LiveLines


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def screen(text):
    """Returns the rows that a terminal shows after a text."""
    rows, row, i = [""], 0, 0
    while i < len(text):
        if text.startswith("\x1b[J", i):
            del rows[row + 1 :]
            rows[row] = ""
            i += 3
        elif text.startswith("\x1b[", i):
            end = text.index("F", i)
            row -= int(text[i + 2 : end])
            i = end + 1
        elif text[i] == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
            i += 1
        else:
            rows[row] += text[i]
            i += 1
    return rows[:-1] if rows[-1] == "" else rows


def test_lines_are_painted_over_below_what_is_permanent():
    stream, clock = Terminal(), Clock()
    live = LiveLines(stream, clock)
    live.print("first")
    live.update(["a 1", "b 1"], "")
    assert screen(stream.getvalue()) == ["first", "a 1", "b 1"]
    live.update(["a 2", "b 2"], "")  # too soon
    live.print("second")
    assert screen(stream.getvalue()) == ["first", "second", "a 1", "b 1"]
    clock.now = 1.0
    live.update(["a 2"], "")
    assert screen(stream.getvalue()) == ["first", "second", "a 2"]
    live.close()
    assert screen(stream.getvalue()) == ["first", "second"]


def test_what_does_not_fit_is_cut():
    stream = Terminal()
    LiveLines(stream, Clock()).update(["x" * 200, *["y"] * 40], "")
    rows = screen(stream.getvalue())
    assert len(rows[0]) == 79
    assert len(rows) == 22
    assert rows[-1] == "... and 20 more"


def test_a_file_gets_a_summary_every_half_minute():
    stream, clock = io.StringIO(), Clock()
    live = LiveLines(stream, clock)
    for clock.now in range(0, 100):
        live.update(["a"], f"{clock.now} s")
    live.print("done")
    live.close()
    assert stream.getvalue().splitlines() == ["30 s", "60 s", "90 s", "done"]
