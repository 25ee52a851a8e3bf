"""The parser of the command line: the commands that are jobs, the others, and what their options are made of.

It loads neither Beam nor torch, so that --help is quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
