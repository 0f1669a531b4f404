"""The former name of `innvest_lite.files`."""

from innvest_lite.files import leftovers, replacing, replacing_folder

__all__ = ["leftovers", "replacing", "replacing_folder"]
