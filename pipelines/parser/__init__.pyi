from .commands import parser
from .options import Value, option_names

__all__ = [
    "Value",
    "option_names",
    "parser",
]
