from .index import FAILED_FILES, INDEX, dry_row_of, failure_row_of, index_row_of, rows_of
from .run import Job, Plan, check_record_uris, warn_unmarked

__all__ = [
    "FAILED_FILES",
    "INDEX",
    "Job",
    "Plan",
    "check_record_uris",
    "dry_row_of",
    "failure_row_of",
    "index_row_of",
    "rows_of",
    "warn_unmarked",
]
