"""What a safe or coded photo still gives away: pixels, metadata, and who is recognised."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
