from .breaker import patience
from .files import create, delete, exists, files_named, read_bytes, replacing, write_whole
from .names import SUFFIXES, common_root, is_local, join, name_under, normal_uri, safe_name

__all__ = [
    "SUFFIXES",
    "common_root",
    "create",
    "delete",
    "exists",
    "files_named",
    "is_local",
    "join",
    "name_under",
    "normal_uri",
    "patience",
    "read_bytes",
    "replacing",
    "safe_name",
    "write_whole",
]
