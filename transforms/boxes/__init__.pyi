from .box_file import BoxFile, Unmatched
from .written import boxes_of

__all__ = ["BoxFile", "Unmatched", "boxes_of"]
