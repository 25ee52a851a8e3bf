from .write_files import WriteBlobs, WritePhotos
from .write_magnified import WriteMagnified
from .write_parquet import WriteParquet
from .write_parts import remove_photos
from .write_table import WriteTable
from .write_webdataset import WriteWebDataset

__all__ = [
    "WriteBlobs",
    "WriteMagnified",
    "WriteParquet",
    "WritePhotos",
    "WriteTable",
    "WriteWebDataset",
    "remove_photos",
]
