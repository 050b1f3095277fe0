"""The made-up business behind the reference server."""

import pytest
from mcp import Client

from backend.demo.business import Ledger
from backend.demo.server import build_server


def test_a_new_invoice_gets_the_next_number() -> None:
    """Numbers go on where the ledger ends."""
    ledger = Ledger()
    created = ledger.create("Umbrella", 100)
    assert created.number == "INV-1004"
    assert ledger.all()[-1] == created


def test_a_refund_is_remembered() -> None:
    """A refunded invoice is listed as refunded, the others are not."""
    ledger = Ledger()
    ledger.refund("INV-1002")
    assert [i.number for i in ledger.all() if i.refunded] == ["INV-1002"]


def test_an_unknown_invoice_says_what_to_do() -> None:
    """The error names the number and where numbers are found."""
    with pytest.raises(ValueError, match="no invoice `INV-9`: list_invoices shows the numbers"):
        Ledger().refund("INV-9")


async def test_arguments_out_of_range_are_refused() -> None:
    """An invoice over nothing is not written."""
    async with Client(build_server()) as client:
        result = await client.call_tool("create_invoice", {"customer": "A", "amount_cents": 0})
        listed = await client.call_tool("list_invoices")
    assert result.is_error
    assert len(listed.structured_content["result"]) == 3


async def test_servers_share_nothing() -> None:
    """Each server has a ledger of its own."""
    async with Client(build_server()) as client:
        await client.call_tool("refund_invoice", {"number": "INV-1001"})
    async with Client(build_server()) as client:
        listed = await client.call_tool("list_invoices")
    assert not any(i["refunded"] for i in listed.structured_content["result"])
