"""The former name of `innvest_lite.files`, for one release."""

from innvest_lite.files import leftovers, replacing, replacing_folder

__all__ = ["leftovers", "replacing", "replacing_folder"]
