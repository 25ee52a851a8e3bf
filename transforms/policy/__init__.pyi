from .pseudonyms import MAX_KEY, Key, KeyFile, NamePeople, SealedRow, face_row, read_key, sealed_row, seeds_by_face
from .rules import SHOWN, SHOWS, Conditions, Policy, load_policy

__all__ = [
    "MAX_KEY",
    "SHOWN",
    "SHOWS",
    "Conditions",
    "Key",
    "KeyFile",
    "NamePeople",
    "Policy",
    "SealedRow",
    "face_row",
    "load_policy",
    "read_key",
    "sealed_row",
    "seeds_by_face",
]
