from .index import FAILED_FILES, INDEX, dry_row_of, failure_row_of, index_row_of, rows_of
from .plan import Plan, check_codec, version_of
from .run import Job, warn_unmarked

__all__ = [
    "FAILED_FILES",
    "INDEX",
    "Job",
    "Plan",
    "check_codec",
    "dry_row_of",
    "failure_row_of",
    "index_row_of",
    "rows_of",
    "version_of",
    "warn_unmarked",
]
