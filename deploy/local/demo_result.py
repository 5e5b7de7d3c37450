"""The receipt as a person reads it."""

from rich.console import Console
from rich.table import Table

from .demo_report import DemoReport

__all__ = ["print_report"]


def print_report(report: DemoReport, console: Console) -> None:
    """The receipt, what the hub holds, and how well the faults were found."""
    receipt = report.receipt
    table = Table(title="Receipt", show_header=False, min_width=46)
    table.add_column()
    table.add_column(justify="right")
    for name, count in (
        ("events", receipt.events),
        ("  scored", receipt.scored),
        ("  dead letters", receipt.dead_letters),
        ("  unread", receipt.unread),
        ("  lost to retention", receipt.lost_to_retention),
        ("anomalies", receipt.anomalies),
        ("  acknowledged", receipt.acknowledged),
        ("  waiting", receipt.waiting),
        ("  held back (policy)", receipt.held_back),
        ("  set aside (too large)", receipt.set_aside),
        ("  dropped by quota", receipt.dropped_by_quota),
    ):
        table.add_row(name, f"{count:,}", style="" if name.startswith(" ") else "bold")
    console.print(table)
    console.print(
        f"ids acknowledged and ids at the hub: {'the same' if report.ids_agree else 'NOT the same'}; "
        f"duplicates at the hub: {report.hub.duplicates:,}"
    )
    console.print(
        f"{report.events_per_second:,.0f} events a second scored; "
        f"precision {report.detection.precision:.1%}, recall {report.detection.recall:.1%} "
        "on the injected faults"
    )
    verdict = "[green]it adds up[/green]" if report.adds_up else "[red]IT DOES NOT ADD UP[/red]"
    console.print(f"{verdict} ({report.seconds:.0f} s)")
