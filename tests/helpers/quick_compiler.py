"""How programs are compiled in tests, and how a run compiles them.

Tests compile more than they run: together these take a fifth of the time of compiling
as a run does, and steps take twice as long.
"""

FLAGS = " ".join(
    (
        "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE",
        "--xla_backend_optimization_level=0",
        # One LLVM module instead of many: the workers of pytest take the cores.
        "--xla_cpu_parallel_codegen_split_count=1",
        # Fused kernels by the older emitter, without MLIR's passes.
        "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
    )
)

# Compiler options of a program whose bits or memory must be those of a run.
AS_RUN = {
    "xla_cpu_opt_preset": "CPU_OPT_PRESET_DEFAULT",
    "xla_backend_optimization_level": 3,
}


def set_flags(environment):
    """Lets XLA, in this process and its children, compile quickly."""
    given = environment.get("XLA_FLAGS", "")
    if FLAGS not in given:  # a worker has them from the process that has started it
        environment["XLA_FLAGS"] = f"{given} {FLAGS}".strip()
