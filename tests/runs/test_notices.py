"""Warnings of a run stay in its folder."""

import logging

from yolojax.runs.notices import WARNINGS_FILE, warnings_kept

log = logging.getLogger("yolojax")


def test_each_warning_is_kept_once_over_all_starts(tmp_path):
    for more in ("first", "second"):
        with warnings_kept(tmp_path):
            log.warning("3 images\nleft out")
            log.warning("%s start", more)
            log.info("all is well")
        log.warning("afterwards")
    lines = (tmp_path / WARNINGS_FILE).read_text().splitlines()
    assert lines == ["3 images left out", "first start", "second start"]


def test_a_run_without_warnings_has_no_file(tmp_path):
    with warnings_kept(tmp_path):
        log.info("all is well")
    assert list(tmp_path.iterdir()) == []
