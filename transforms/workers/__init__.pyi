from .fork_server import fork_server
from .isolate import LIMITS, IsolatedStages, Limits, stages_of
from .stage import (
    NAMESPACE,
    NOT_READ,
    Input,
    Stage,
    StageTransform,
    as_outputs,
    by_action,
    failure_of,
    join_failures,
    photo_id,
    tell_written,
    through,
    with_time,
)

__all__ = [
    "LIMITS",
    "NAMESPACE",
    "NOT_READ",
    "Input",
    "IsolatedStages",
    "Limits",
    "Stage",
    "StageTransform",
    "as_outputs",
    "by_action",
    "failure_of",
    "fork_server",
    "join_failures",
    "photo_id",
    "stages_of",
    "tell_written",
    "through",
    "with_time",
]
