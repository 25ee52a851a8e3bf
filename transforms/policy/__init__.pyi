from .pseudonyms import Key, KeyFile, NamePeople, SealedRow, face_row, read_key, sealed_row, seeds_by_face
from .rules import SHOWN, SHOWS, Conditions, Policy, load_policy

__all__ = [
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
