"""The report as a parser of HTML sees it, for the tests of what it says."""

from html.parser import HTMLParser

from scarce.report import all_figures, figure_names, render
from scarce.summary import RunSummary
from summaries import blanks

VOID = {"meta", "link", "img", "br", "hr", "input"}


def sketch(summary: RunSummary, *drawn: str) -> str:
    """Return the page with every figure in its place, but only some of them drawn."""
    return render(summary, blanks(figure_names(summary)) | all_figures(summary, drawn))


class Page(HTMLParser):
    """A page as a parser sees it: its elements, the text of each, and what was left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[int] = []
        self.text: dict[int, str] = {}
        self.misnested: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.elements[self.open.pop()][0] != tag:
            self.misnested.append(tag)

    def handle_data(self, data: str) -> None:
        for index in self.open:
            self.text[index] = self.text.get(index, "") + data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def texts(self, tag: str, **wanted: str) -> list[str]:
        return [
            " ".join(self.text.get(index, "").split())
            for index, (name, attributes) in enumerate(self.elements)
            if name == tag and wanted.items() <= attributes.items()
        ]

    def scripts(self) -> list[str]:
        return [self.text.get(i, "") for i, (tag, _) in enumerate(self.elements) if tag == "script"]

    def rows(self) -> list[list[str]]:
        """Return the words of each table row, cell by cell."""
        rows: list[list[str]] = []
        for index, (tag, _) in enumerate(self.elements):
            if tag == "tr":
                rows.append([])
            if tag in {"td", "th"}:
                rows[-1].append(" ".join(self.text.get(index, "").split()))
        return rows

    def skeleton(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]
