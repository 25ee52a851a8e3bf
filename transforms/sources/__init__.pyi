from .read import (
    IMAGE_SUFFIXES,
    MAX_BYTES,
    PHOTO_SUFFIXES,
    ListFiles,
    ReadFiles,
    ReadPhotos,
    folder_of,
    is_many,
    list_files,
    read_file,
)
from .read_coded import CODED_SUFFIXES, ReadCoded, ReadCodedFiles, photo_of_blob, photo_of_sample, photos_of_table

__all__ = [
    "CODED_SUFFIXES",
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "PHOTO_SUFFIXES",
    "ListFiles",
    "ReadCoded",
    "ReadCodedFiles",
    "ReadFiles",
    "ReadPhotos",
    "folder_of",
    "is_many",
    "list_files",
    "photo_of_blob",
    "photo_of_sample",
    "photos_of_table",
    "read_file",
]
