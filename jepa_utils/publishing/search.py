"""What the search page finds: numbers with a point, and compounds however they are written."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

WORDS = re.compile(r"\d+\.\d+|\w+(?:-\w+)*")
BETWEEN = re.compile(r"(</(?:td|th|li|p|dd|dt|summary|details|figcaption|div|button)>)(?=<)")
# Written apart, together or with a hyphen, on the pages and by readers.
TOGETHER = re.compile(r"\bstop[\s_-]+grad(?:ients?)?\b|\bstopgrad(?:ients?)?\b", re.IGNORECASE)


def words_of(text: str) -> list[str]:
    """The words under which a text is found.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of str
        A number with a point is one word. A compound with hyphens is found by each of its words and
        by all of them in one; "stop gradient" also as "stopgradient", however it is written.
    """
    found = ["stopgradient" for _ in TOGETHER.findall(text)]
    for word in WORDS.findall(text):
        parts = [part for part in word.split("-") if part]
        found += [*parts, "".join(parts)] if len(parts) > 1 else parts
    return found


class BookSearch(SearchEnglish):
    """English, with our words."""

    # What a reader types. A compound that is in the index is one word: "I-JEPA" is no wish for
    # every page that has a JEPA.
    js_splitter_code = r"""
function splitQuery(query) {
  const index = typeof Search === "undefined" ? null : Search._index;
  const known = (word) => index && [index.terms, index.titleterms].some(
    (terms) => Object.hasOwn(terms, new Stemmer().stemWord(word.toLowerCase())));
  return (query
    .replace(/(?<![\p{L}\p{N}_])stop[\s_-]*grad(ients?)?(?![\p{L}\p{N}_])/giu, "stopgradient")
    .match(/\d+\.\d+|[\p{L}\p{N}_]+(?:-[\p{L}\p{N}_]+)*/gu) || [])
    .flatMap((word) => {
      const joined = word.replaceAll("-", "");
      return known(joined) ? joined : word.split("-");
    });
}
"""

    def split(self, input: str) -> list[str]:
        """The words of a text; Sphinx calls it for all that stands on a page."""
        return words_of(input)


def setup(app: Sphinx) -> None:
    """Take it as the book's search language."""
    app.add_search_language(BookSearch)
    app.connect("doctree-resolved", keep_cells_apart)


def keep_cells_apart(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put a space between the cells of a table in HTML: the index drops tags, no more."""
    for node in doctree.findall(nodes.raw):
        html = node.astext()
        if (apart := BETWEEN.sub(r"\1 ", html)) != html:
            node.children = []
            node += nodes.Text(apart)
