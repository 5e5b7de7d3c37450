"""What a month shows: its outages with their receipts, and figures of the whole; as Markdown and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from farshore.agents.store_receipt import StoreReceipt

from .calendar import DAY

__all__ = ["MonthReport", "OutageRow"]


@dataclass(frozen=True)
class OutageRow:
    """One outage: what was written in the stretch that its receipt is about, and the receipt itself.

    `offline` is whether the line was still cut when the receipt was ready.
    """

    simulated_seconds: float
    written: int
    receipt: StoreReceipt
    receipt_seconds: float
    offline: bool
    store_mb: float

    @property
    def cells(self) -> list[str]:
        """As the table has them."""
        receipt = self.receipt
        cut = self.simulated_seconds
        return [
            f"{cut / DAY:g} d" if cut >= DAY else f"{cut / 60:g} min",
            f"{self.written:,}",
            f"{receipt.anomalies:,}",
            f"{receipt.acknowledged:,}",
            f"{receipt.waiting:,}",
            "yes" if self.offline else "no",
            f"{self.receipt_seconds:.1f}",
            f"{self.store_mb:.0f}",
        ]


HEAD = ["outage", "found", "in its receipt", "acknowledged", "waiting", "offline", "counted in s", "store MB"]


@dataclass
class MonthReport:
    """Figures by name, in the order in which they are set."""

    anomalies: int
    seconds: float
    retention_days: float
    outages: list[OutageRow] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def table(self) -> str:
        """Markdown, readable on a terminal too."""
        rows = [HEAD, ["---"] * len(HEAD), *(row.cells for row in self.outages)]
        lines = ["| " + " | ".join(cell.rjust(14) for cell in row) + " |" for row in rows]
        lines += ["", "| figure | value |", "| --- | --- |"]
        lines += [
            f"| {name} | {value:,.{0 if value >= 100 else 1}f} |" for name, value in self.figures.items()
        ]
        return "\n".join(lines)

    def write(self, folder: Path) -> Path:
        """Markdown and JSON in `folder`, named by date and size; the Markdown's path."""
        now = datetime.now(UTC)
        path = folder / f"{now:%Y-%m-%d}-{self.anomalies}.md"
        folder.mkdir(parents=True, exist_ok=True)
        title = (
            f"# A month of {self.anomalies:,} anomalies in {self.seconds:,.0f} s, {now:%Y-%m-%d}\n\n"
            f"30 simulated days, retention {self.retention_days:g} days; `make test-month`. All held."
        )
        path.write_text(f"{title}\n\n{self.table()}\n")
        path.with_suffix(".json").write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path
