"""Fixtures of this room."""

from untraced import eager_fits  # noqa: F401
