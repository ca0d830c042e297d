"""Counts of a program's text."""

import jax
import jax.numpy as jnp
import pytest

from yolojax.program.absent.counted import bytes_of, computations_of, counted, launched

TEXT = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%fused_computation (param_0: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  ROOT %add.1 = f32[8]{0} add(%param_0, %param_0)
}

%graph (p.1: f32[8]) -> (f32[8], bf16[2,4]) {
  %p.1 = f32[8]{0} parameter(0)
  %wide = bf16[2,4]{1,0:T(8,128)(2,1)} custom-call(%p.1), custom_call_target="f(x)"
  %same.2 = f32[8]{0} copy(%p.1)
  ROOT %both = (f32[8]{0}, /*index=1*/bf16[2,4]{1,0}) tuple(%same.2, %wide)
}

ENTRY %main.3 (state: f32[8], /*index=1*/batch: f32[8]) -> (f32[8], pred[]) {
  %state = f32[8]{0} parameter(0), metadata={op_name="a = b(c)"}
  %batch = f32[8]{0} parameter(1)
  %seven = f32[] constant(7)
  %sum = f32[8]{0} fusion(%state, %batch), kind=kLoop, calls=%fused_computation
  %call = (f32[8]{0}, bf16[2,4]{1,0}) call(%sum), to_apply=%graph
  %first = f32[8]{0} get-tuple-element(%call), index=0
  %all-reduce-start = f32[8]{0} all-reduce-start(%first), to_apply=%fused_computation
  %done = f32[8]{0} all-reduce-done(%all-reduce-start)
  %flag = pred[] fusion(%done, %seven), kind=kInput, calls=%fused_computation
  ROOT %out = (f32[8]{0}, pred[]) tuple(%done, %flag)
}
"""


def test_what_starts_the_device_is_counted_once():
    counts = counted(TEXT)
    # sum, custom-call and copy of the graph, start, done, flag
    assert (counts.launches, counts.all_reduces) == (6, 1)
    # 3 x 32; 32 + 16; 2 x 32; 2 x 32; 2 x 32; 32 + 4 + 1
    assert counts.traffic == 96 + 48 + 64 + 64 + 64 + 37
    assert counts.kinds[0] == ("fusion", 2, 133)
    assert [i.name for i, _ in launched(TEXT)][:3] == ["sum", "wide", "same.2"]


def test_operands_end_with_their_bracket():
    computations, entry = computations_of(TEXT)
    assert entry == "main.3"
    wide = computations["graph"][1]
    assert (wide.opcode, wide.operands) == ("custom-call", ("p.1",))


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("f32[]", 4),
        ("pred[3]{0}", 3),
        ("(bf16[2,3]{1,0}, /*index=1*/s64[4], u8[0]{0})", 44),
        ("bf16[64,80]{1,0:T(8,128)(2,1)}", 10240),
        ("s4[10]{0:E(4)}", 5),
        ("token[]", 0),
        ("f8e4m3fn[16]", 16),
    ],
)
def test_bytes_of_types(kind, size):
    assert bytes_of(kind) == size


def test_a_program_of_this_machine():
    def step(x, y):
        return jnp.cumsum(x @ y)

    shape = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    counts = counted(jax.jit(step).lower(shape, shape).compile().as_text())
    assert counts.launches >= 2
    assert counts.traffic >= 4 * 16 * 16 * 4


def test_other_texts_are_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        counted("func.func public @main() {\n}\n")
