"""Boxes from elsewhere and for elsewhere: files that say where faces and other regions are."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
