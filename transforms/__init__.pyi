from .compress import CompressPhotos
from .magnify import MagnifyFaces
from .one_call import Redacted, compress_image, redact_image, restore_image
from .redact import RedactPhotos
from .restore import RestorePhotos
from .sinks.write_files import WriteBlobs, WritePhotos
from .sinks.write_magnified import WriteMagnified
from .sinks.write_parquet import WriteParquet
from .sinks.write_webdataset import WriteWebDataset
from .sources.read import ReadPhotos
from .sources.read_coded import ReadCoded

__all__ = [
    "CompressPhotos",
    "MagnifyFaces",
    "ReadCoded",
    "ReadPhotos",
    "RedactPhotos",
    "Redacted",
    "RestorePhotos",
    "WriteBlobs",
    "WriteMagnified",
    "WriteParquet",
    "WritePhotos",
    "WriteWebDataset",
    "compress_image",
    "redact_image",
    "restore_image",
]
