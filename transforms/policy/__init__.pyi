from .conditions import GROWN, YOUNG, Conditions, matches_path
from .corrections import (
    MAX_CORRECTIONS,
    Correction,
    Corrections,
    PhotoCorrections,
    parse_corrections,
    read_corrections,
)
from .pseudonyms import MAX_KEY, Key, KeyFile, NamePeople, SealedRow, face_row, read_key, sealed_row, seeds_by_face
from .rules import ACTIONS, FOR_FACES, SHOWN, SHOWS, WITHHOLD, Policy, Rule, load_policy
from .sentences import explained

__all__ = [
    "ACTIONS",
    "FOR_FACES",
    "GROWN",
    "MAX_CORRECTIONS",
    "MAX_KEY",
    "SHOWN",
    "SHOWS",
    "WITHHOLD",
    "YOUNG",
    "Conditions",
    "Correction",
    "Corrections",
    "Key",
    "KeyFile",
    "NamePeople",
    "PhotoCorrections",
    "Policy",
    "Rule",
    "SealedRow",
    "explained",
    "face_row",
    "load_policy",
    "matches_path",
    "parse_corrections",
    "read_corrections",
    "read_key",
    "sealed_row",
    "seeds_by_face",
]
