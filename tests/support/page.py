"""What a library shows in a notebook, as HTML that is looked at."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a front end that trusts nobody leaves of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.styles: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.styles += [value or "" for name, value in attrs if name == "style"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All words, as a reader has them."""
        return " ".join(self.words)


def page_of(html: str) -> Page:
    """The page, once it is known to have nothing that a notebook which is not trusted would drop."""
    page = Page(html)
    assert page.tags <= {"div", "table", "tr", "td", "th"}
    assert page.attributes <= {"style"}
    assert "max-width:760px" in page.styles[0]
    assert not any("url(" in style or "font-family" in style or "flex" in style for style in page.styles)
    return page
