from .face import FaceFinder

__all__ = [
    "FaceFinder",
]
