from .listing import (
    EXCLUDED,
    IMAGE_SUFFIXES,
    PASSED,
    PHOTO_SUFFIXES,
    folder_of,
    is_covered,
    is_many,
    list_files,
    passed_over,
    patterns_of,
)
from .photo_reader import MAX_BYTES, PhotoReader, read_file
from .read import ListFiles, ReadFiles
from .read_coded import CODED_SUFFIXES, ReadCodedFiles, photo_of_blob, photo_of_sample, photos_of_table
from .reviewed import CheckCorrections, GiveCorrections, check_corrections, corrections_of

__all__ = [
    "CODED_SUFFIXES",
    "EXCLUDED",
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "PASSED",
    "PHOTO_SUFFIXES",
    "CheckCorrections",
    "GiveCorrections",
    "ListFiles",
    "PhotoReader",
    "ReadCodedFiles",
    "ReadFiles",
    "check_corrections",
    "corrections_of",
    "folder_of",
    "is_covered",
    "is_many",
    "list_files",
    "passed_over",
    "patterns_of",
    "photo_of_blob",
    "photo_of_sample",
    "photos_of_table",
    "read_file",
]
