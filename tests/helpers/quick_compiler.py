"""How programs are compiled in tests, and how a run compiles them.

Tests compile more than they run: the preset and LLVM's level together halve the time of
compiling, and steps take twice as long.
"""

FLAGS = "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE"
FLAGS += " --xla_backend_optimization_level=0"

# Compiler options of a program whose bits or memory must be those of a run.
AS_RUN = {
    "xla_cpu_opt_preset": "CPU_OPT_PRESET_DEFAULT",
    "xla_backend_optimization_level": 3,
}
# Of a program that takes longer to run without LLVM's optimisations than with them.
OPTIMISED = {"xla_backend_optimization_level": 1}


def set_flags(environment):
    """Lets XLA, in this process and its children, compile quickly."""
    given = environment.get("XLA_FLAGS", "")
    if FLAGS not in given:  # a worker has them from the process that has started it
        environment["XLA_FLAGS"] = f"{given} {FLAGS}".strip()
