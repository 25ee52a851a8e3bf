"""Child processes that the photos go through, so that one photo's crash, hang or hunger is its own."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
