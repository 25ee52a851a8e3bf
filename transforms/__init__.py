"""Beam transforms, one stage of the photo's way per file."""
