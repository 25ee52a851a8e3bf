from .corrections import (
    MAX_CORRECTIONS,
    Correction,
    Corrections,
    PhotoCorrections,
    parse_corrections,
    read_corrections,
)
from .pseudonyms import MAX_KEY, Key, KeyFile, NamePeople, SealedRow, face_row, read_key, sealed_row, seeds_by_face
from .rules import SHOWN, SHOWS, Conditions, Policy, load_policy

__all__ = [
    "MAX_CORRECTIONS",
    "MAX_KEY",
    "SHOWN",
    "SHOWS",
    "Conditions",
    "Correction",
    "Corrections",
    "Key",
    "KeyFile",
    "NamePeople",
    "PhotoCorrections",
    "Policy",
    "SealedRow",
    "face_row",
    "load_policy",
    "parse_corrections",
    "read_corrections",
    "read_key",
    "sealed_row",
    "seeds_by_face",
]
