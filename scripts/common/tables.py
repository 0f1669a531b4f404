"""Tables as text, as the package prints them."""

from innvest_lite.tables import table


def table_of(rows, number):
    """Rows that are dicts of the same keys.

    Args:
        rows: the dicts.
        number: how a float is written, as in ".3f".
    """
    cells = [[format(cell, number) if isinstance(cell, float) else cell for cell in row.values()] for row in rows]
    return table(tuple(rows[0]), cells)
