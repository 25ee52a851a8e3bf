"""How tables, shards and their manifest are laid out, for those who read and those who write them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
