from .read import (
    IMAGE_SUFFIXES,
    MAX_BYTES,
    PHOTO_SUFFIXES,
    ListFiles,
    ReadFiles,
    folder_of,
    is_covered,
    is_many,
    list_files,
    patterns_of,
    read_file,
)
from .read_coded import CODED_SUFFIXES, ReadCodedFiles, photo_of_blob, photo_of_sample, photos_of_table

__all__ = [
    "CODED_SUFFIXES",
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "PHOTO_SUFFIXES",
    "ListFiles",
    "ReadCodedFiles",
    "ReadFiles",
    "folder_of",
    "is_covered",
    "is_many",
    "list_files",
    "patterns_of",
    "photo_of_blob",
    "photo_of_sample",
    "photos_of_table",
    "read_file",
]
