"""Lesion by lesion: connected components, matching, detection, FROC, panoptic quality."""
