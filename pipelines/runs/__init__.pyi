from .resume import INDEX
from .run import Job, Plan, warn_unmarked

__all__ = [
    "INDEX",
    "Job",
    "Plan",
    "warn_unmarked",
]
