"""The tools, resources and prompts of a small invoicing business.

One tool of every side-effect class, so that an access policy has something to tell apart, and
one that streams. Everything is made up and in memory.
"""

from typing import Annotated

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

READ = ToolAnnotations(read_only_hint=True, idempotent_hint=True)
WRITE = ToolAnnotations(read_only_hint=False, destructive_hint=False)
DESTRUCTIVE = ToolAnnotations(read_only_hint=False, destructive_hint=True)


class Invoice(BaseModel, frozen=True):
    """An invoice; `amount_cents` is in euro cents."""

    number: str
    customer: str
    amount_cents: int
    refunded: bool = False


class Ledger:
    """The invoices of one running server, lost when it stops."""

    def __init__(self) -> None:
        self._invoices = {
            invoice.number: invoice
            for invoice in (
                _invoice(1001, "Acme", 12_500),
                _invoice(1002, "Globex", 99_000),
                _invoice(1003, "Initech", 4_200),
            )
        }

    def all(self) -> list[Invoice]:
        """Every invoice, oldest first."""
        return list(self._invoices.values())

    def get(self, number: str) -> Invoice:
        """The invoice of that number; raises ValueError when there is none."""
        try:
            return self._invoices[number]
        except KeyError:
            raise ValueError(f"no invoice `{number}`: list_invoices shows the numbers") from None

    def create(self, customer: str, amount_cents: int) -> Invoice:
        """Add an invoice under the next number."""
        invoice = _invoice(1001 + len(self._invoices), customer, amount_cents)
        self._invoices[invoice.number] = invoice
        return invoice

    def refund(self, number: str) -> Invoice:
        """Mark an invoice as refunded; raises ValueError when there is none."""
        invoice = self.get(number).model_copy(update={"refunded": True})
        self._invoices[number] = invoice
        return invoice


def _invoice(number: int, customer: str, amount_cents: int) -> Invoice:
    return Invoice(number=f"INV-{number}", customer=customer, amount_cents=amount_cents)


def add_business(server: MCPServer, ledger: Ledger) -> None:
    """Register the business tools, resources and prompts on `server`."""
    _add_invoice_tools(server, ledger)
    _add_plain_tools(server)
    _add_resources_and_prompts(server, ledger)


def _add_invoice_tools(server: MCPServer, ledger: Ledger) -> None:
    @server.tool(annotations=READ)
    def list_invoices() -> list[Invoice]:
        """List all invoices."""
        return ledger.all()

    @server.tool(annotations=WRITE)
    def create_invoice(customer: str, amount_cents: Annotated[int, Field(gt=0)]) -> Invoice:
        """Create an invoice for a customer."""
        return ledger.create(customer, amount_cents)

    @server.tool(annotations=DESTRUCTIVE)
    def refund_invoice(number: str) -> Invoice:
        """Pay an invoice's amount back; this cannot be undone."""
        return ledger.refund(number)


def _add_plain_tools(server: MCPServer) -> None:
    @server.tool(annotations=READ, structured_output=False)
    def echo(text: str) -> str:
        """Return the text as it came."""
        return text

    @server.tool(annotations=READ, structured_output=False)
    async def slow_report(
        context: Context,
        steps: Annotated[int, Field(ge=1, le=10_000)] = 5,
        delay_seconds: Annotated[float, Field(ge=0, le=60)] = 0.05,
    ) -> str:
        """Work in steps, telling the progress after each."""
        for step in range(1, steps + 1):
            await anyio.sleep(delay_seconds)
            await context.report_progress(step, steps, f"step {step} of {steps}")
        return f"report ready after {steps} steps"


def _add_resources_and_prompts(server: MCPServer, ledger: Ledger) -> None:
    @server.resource("invoices://all", mime_type="application/json")
    def all_invoices() -> list[Invoice]:
        """Every invoice."""
        return ledger.all()

    @server.resource("invoices://{number}", mime_type="application/json")
    def one_invoice(number: str) -> Invoice:
        """One invoice by its number."""
        return ledger.get(number)

    @server.prompt()
    def payment_reminder(customer: str, tone: str = "friendly") -> str:
        """Write to a customer whose invoice is due."""
        return f"Write a {tone} payment reminder to {customer}."
