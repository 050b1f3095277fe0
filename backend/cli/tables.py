"""Tables whose columns are as wide as what stands in them."""

from collections.abc import Container

from rich.table import Table


def aligned(*headings: str, numbers: Container[str] = (), wrapped: Container[str] = ()) -> Table:
    """An empty table without lines.

    Args:
        numbers: headings of columns to align at the right.
        wrapped: headings of columns that may take several lines; others are cut where
            there is no room.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(
            heading,
            no_wrap=heading not in wrapped,
            overflow="fold" if heading in wrapped else "ellipsis",
            justify="right" if heading in numbers else "left",
        )
    return table
