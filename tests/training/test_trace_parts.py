"""What is said of a trace: which part of the step took how long."""

import gzip
import json

import pytest

from yolojax.training import trace_parts
from yolojax.training.trace_parts import Span

TEXT = """\
ENTRY %main.3 (state: f32[8]) -> f32[8] {
  %state = f32[8]{0} parameter(0), metadata={op_name="state"}
  %conv.1 = f32[8] fusion(%state), calls=%f, metadata={op_name="jit(s)/jvp(forward)/a"}
  ROOT %add.2 = f32[8] add(%conv.1), metadata={op_name="jit(s)/update/add" id=3}
}
"""


def kernel(name, start, length, tid=1, module="jit_train_step.4"):
    details = {"hlo_module": module, "hlo_op": name}
    found = {"ph": "X", "pid": 7, "tid": tid, "ts": start, "dur": length}
    return found | {"name": name, "args": details}


EVENTS = [
    {"ph": "M", "pid": 7, "tid": 1, "name": "thread_name", "args": {"name": "Eigen/9"}},
    {},
    kernel("conv.1", 10.0, 20.0),
    kernel("add.2", 15.0, 5.0),
    kernel("unknown", 30.0, 4.0, tid=2),
    kernel("conv.1", 40.0, 9.0, module="jit_eval_step"),
    {"ph": "X", "pid": 7, "tid": 5, "ts": 2.0, "dur": 6.0, "name": "load"},
]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("jit(train_step)/render/div", "render"),
        ("jit(train_step)/jvp(forward)/YOLO11/model_0/conv", "forward"),
        ("jit(train_step)/jvp(loss)/vmap()/scatter-max", "loss"),
        ("jit(train_step)/transpose(jvp(forward))/YOLO11/model_0/mul", "backward"),
        ("jit(train_step)/transpose(jvp(loss))/mul", "backward"),
        ("jit(scan_step)/while/body/update/add", "update"),
        ("jit(train_step)/lossless/forwarded", "other"),
    ],
)
def test_parts_are_told_by_names(name, part):
    assert trace_parts.part_of(name) == part


def test_kernels_have_the_parts_of_their_instructions():
    parts = trace_parts.parts_of(TEXT)
    assert parts == {"state": "other", "conv.1": "forward", "add.2": "update"}
    assert trace_parts.spans_of(EVENTS, parts) == [
        Span("Eigen 1", 10.0, 30.0, "forward"),
        Span("Eigen 1", 15.0, 20.0, "update"),
        Span("device 2", 30.0, 34.0, "other"),
        Span("host", 2.0, 8.0, "load"),
    ]


def test_what_contains_others_counts_without_them():
    spans = trace_parts.spans_of(EVENTS, trace_parts.parts_of(TEXT))
    times = trace_parts.seconds_of(spans, 2)
    expected = {"load": 3e-6, "forward": 7.5e-6, "update": 2.5e-6, "other": 2e-6}
    assert times == pytest.approx(expected)
    assert list(times) == list(expected)


def test_a_trace_is_drawn_if_there_is_something_in_it(tmp_path):
    assert trace_parts.draw(tmp_path, TEXT, 2) is None
    with gzip.open(tmp_path / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": EVENTS}, file)
    picture = trace_parts.draw(tmp_path, TEXT, 2)
    assert picture == tmp_path / "timeline.png" and picture.stat().st_size > 5000
    with gzip.open(tmp_path / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": EVENTS[:2]}, file)
    assert trace_parts.draw(tmp_path, TEXT, 2) is None
