from .pseudonyms import FaceRow, NamePeople, face_row, read_key, seeds_of
from .rules import SHOWN, Policy, Rule, load_policy

__all__ = [
    "SHOWN",
    "FaceRow",
    "NamePeople",
    "Policy",
    "Rule",
    "face_row",
    "load_policy",
    "read_key",
    "seeds_of",
]
