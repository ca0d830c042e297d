"""Who may import whom in yolojax/: the one table of it."""

LAYERS = (  # lowest first; a room imports from lower layers and from itself
    (
        "types",
        "registry",
        "precision",
        "errors",
        "interrupts",
        "files",
        "cache",
        "streams",
        "config",
    ),
    ("ops",),
    ("models", "losses", "metrics", "data", "optim", "tracking"),
    ("tasks", "runs", "devices", "writers", "visualize"),
    ("weights",),
    ("assembly",),
    ("program",),
    ("inference", "export", "speed"),
    ("training", "studies", "planning"),
    ("commands",),
    ("main", "api"),
    ("__main__",),
)
INSIDE = {  # the same within a room; what stands in one tuple are strangers
    "data": (
        ("geometry",),
        ("samples", "shapes"),
        ("store",),
        ("formats",),
        ("batches", "examine"),
    ),
    "program": (
        ("step", "compiler", "kept"),
        ("start",),
        ("dispatch", "feed", "prediction"),
        ("train_program",),
        ("memory", "ahead"),
        ("batch_size", "absent"),
    ),
    "training": (
        ("clock", "stop", "trace_parts"),
        ("profile", "loader_pace"),
        ("outputs", "preemption"),
        ("run",),
        ("replay",),
        ("epoch_end",),
        ("loop",),
    ),
    "weights": (
        ("torch", "names"),
        ("sources", "hub", "freeze", "family"),
        ("transfer",),
    ),
}
