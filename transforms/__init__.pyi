from .compress import CompressPhotos
from .magnify import MagnifyFaces
from .one_call import Redacted, compress_image, redact_image, restore_image
from .redact import RedactPhotos
from .restore import RestorePhotos
from .settings import CompressSettings, MagnifySettings, RedactSettings, RestoreSettings, SettingsError
from .sinks.write_files import WriteBlobs, WritePhotos
from .sinks.write_magnified import WriteMagnified
from .sinks.write_parquet import WriteParquet
from .sinks.write_table import WriteTable
from .sinks.write_webdataset import WriteWebDataset
from .sources.read import ReadPhotos
from .sources.read_coded import ReadCoded

__all__ = [
    "CompressPhotos",
    "CompressSettings",
    "MagnifyFaces",
    "MagnifySettings",
    "ReadCoded",
    "ReadPhotos",
    "RedactPhotos",
    "RedactSettings",
    "Redacted",
    "RestorePhotos",
    "RestoreSettings",
    "SettingsError",
    "WriteBlobs",
    "WriteMagnified",
    "WriteParquet",
    "WritePhotos",
    "WriteTable",
    "WriteWebDataset",
    "compress_image",
    "redact_image",
    "restore_image",
]
