"""Hypothesis as these tests want it."""

from hypothesis import settings

# A busy machine is no failure; what is slow shows in pytest's own durations.
settings.register_profile("farshore", deadline=None, print_blob=True)
settings.load_profile("farshore")
