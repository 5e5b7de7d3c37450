"""Measured figures into the documents: what they show is made from docs/benchmarks/*.json and nothing else.

    python benchmarks/publish.py [--from FOLDER] [NAME ...]

Copies the named benchmarks' JSON and charts (without names: all that are there) from the folder they were
written to into docs/benchmarks, and fills the places in README.md and docs/PERFORMANCE.md that are marked
`<!-- figures: NAME -->` to `<!-- end of figures -->`. A place whose benchmark was not published stays.
"""

import argparse
import json
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import backlog
import cores
import crayfish
import growth
import guarantee
import peers
import run
import stages
from report import OUT, Json

ROOT = Path(__file__).resolve().parents[1]


def growth_part(axis: str, found: Json) -> str:
    """One axis: its chart and its table; nothing where it was not measured."""
    if axis not in found["results"]:
        return ""
    name = growth.NAMES[axis]
    image = f"![Events a second against {name}](benchmarks/growth-{axis}.svg)\n"
    return f"{image}\n{growth.axis_table(found, axis)}"


PUBLISHED = ROOT / "docs" / "benchmarks"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "PERFORMANCE.md")
PLACE = re.compile(r"<!-- figures: ([\w-]+) -->\n.*?<!-- end of figures -->", re.DOTALL)
MARKDOWN: Mapping[str, Callable[[Json], str]] = {
    "peers": peers.markdown,
    "rivals": run.markdown,
    "stages": stages.markdown,
    "cores": cores.markdown,
    "backlog": backlog.markdown,
    "crayfish": crayfish.markdown,
    "growth": growth.markdown,
    "guarantee": guarantee.markdown,
}
PARTS: Mapping[str, tuple[str, Callable[[Json], str]]] = {
    "readme": ("peers", peers.short_markdown),
    "backlog-chart": ("backlog", lambda _: "![Resident memory over the backlog](benchmarks/backlog.svg)\n"),
    "growth-terms": ("growth", growth.terms),
    **{f"growth-{axis}": ("growth", partial(growth_part, axis)) for axis in growth.AXES},
}
"""Places that show a part of a benchmark, and which."""


def published() -> dict[str, Json]:
    """Every benchmark in docs/benchmarks by name."""
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(PUBLISHED.glob("*.json"))}
    return {name: document for name, document in found.items() if name in MARKDOWN}


def rendered(text: str, found: Mapping[str, Json]) -> str:
    """A document with its places filled."""

    def fill(place: re.Match[str]) -> str:
        name = place[1]
        source, markdown = PARTS.get(name, (name, MARKDOWN.get(name)))
        if markdown is None:
            raise SystemExit(f"no benchmark is called {name!r}; there are {', '.join([*MARKDOWN, *PARTS])}")
        shown = markdown(found[source]) if source in found else ""
        return f"<!-- figures: {name} -->\n{shown}<!-- end of figures -->" if shown else place[0]

    return PLACE.sub(fill, text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--from", dest="folder", type=Path, default=OUT)
    options = parser.parse_args()
    names = options.names or [name for name in MARKDOWN if (options.folder / f"{name}.json").exists()]
    for name in names:
        source = options.folder / f"{name}.json"
        if name not in MARKDOWN or not source.exists():
            raise SystemExit(f"{source} is missing: run the benchmark {name!r} first")
        PUBLISHED.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, PUBLISHED / source.name)
        for drawing in options.folder.glob(f"{name}*.svg"):
            shutil.copy(drawing, PUBLISHED / drawing.name)
    found = published()
    for document in DOCUMENTS:
        document.write_text(rendered(document.read_text("utf-8"), found), "utf-8")
    print(f"published: {', '.join(names) or 'nothing'}")


if __name__ == "__main__":
    main()
