"""The rules that decide, face by face, and the keys by which one person gets one new face."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
