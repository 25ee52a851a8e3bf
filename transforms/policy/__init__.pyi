from .conditions import GROWN, YOUNG, Conditions, matches_path
from .pseudonyms import MAX_KEY, Key, KeyFile, NamePeople, SealedRow, face_row, read_key, sealed_row, seeds_by_face
from .rules import ACTIONS, FOR_FACES, SHOWN, SHOWS, WITHHOLD, Policy, Rule, load_policy
from .sentences import explained

__all__ = [
    "ACTIONS",
    "FOR_FACES",
    "GROWN",
    "MAX_KEY",
    "SHOWN",
    "SHOWS",
    "WITHHOLD",
    "YOUNG",
    "Conditions",
    "Key",
    "KeyFile",
    "NamePeople",
    "Policy",
    "Rule",
    "SealedRow",
    "explained",
    "face_row",
    "load_policy",
    "matches_path",
    "read_key",
    "sealed_row",
    "seeds_by_face",
]
