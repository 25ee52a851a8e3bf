"""Who is not to be recognised: new people, redactions, and galleries of those whom a policy names."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
