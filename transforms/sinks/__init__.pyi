from .write_files import WriteBlobs, WritePhotos, blob_of
from .write_magnified import WriteMagnified
from .write_parquet import WriteParquet
from .write_webdataset import WriteWebDataset

__all__ = [
    "WriteBlobs",
    "WriteMagnified",
    "WriteParquet",
    "WritePhotos",
    "WriteWebDataset",
    "blob_of",
]
