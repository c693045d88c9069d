"""Scores of a mask against a reference: overlap, surfaces, and what each score makes of an empty mask."""
