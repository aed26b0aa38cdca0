"""The directive ``c-header``: a section of a C header as a page.

The comments of our headers are the manual, so the C reference shows them instead of repeating them. A section
begins with a banner

    /* ------------
     * Title
     *
     * Words about it.
     * --------- */

whose words become paragraphs. Below it, up to the next banner, each declaration is shown as it is, with the
words of the comment before it underneath. Whatever is declared has an anchor of its name, to which the names
in the words link: other pages can link to ``c.md#qz_encode``.

    ```{c-header} ../include/quantize.h
    ```
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

COMMENT = re.compile(r"/\*(?P<text>.*?)\*/\n?", re.DOTALL)
BANNER = re.compile(r"^/\* -{20,}\n(?P<text>(?: \*.*\n)+?) \* -{20,} \*/\n", re.MULTILINE)


# What a declaration declares: functions, types, macros and the constants of an enum.
DECLARED = re.compile(
    r"^(?:\w[\w ]*[ *])(qz_\w+)\(|^\} (qz_\w+);|^typedef [^({]*\b(qz_\w+);"
    r"|^# *define (Q\w+)|^ +(QZ_\w+) *(?:=|,|$)",
    re.MULTILINE,
)


def declared(code: str) -> list[str]:
    """The names that some code declares, in order."""
    code = COMMENT.sub("\n", code)
    names = (next(filter(None, match.groups())) for match in DECLARED.finditer(code))
    return list(dict.fromkeys(names))


def inline(text: str) -> list[nodes.Node]:
    """A paragraph's words, with our names and what stands between backquotes as code."""
    result: list[nodes.Node] = []
    for part in re.split(r"(`[^`]+`|\b(?:qz_|QZ_|QUANTIZE_)\w+(?:\(\))?)", " ".join(text.split())):
        is_code = part.startswith(("`", "qz_", "QZ_", "QUANTIZE_"))
        word = part.strip("`") if is_code else part
        if not is_code:
            result.append(nodes.Text(word))
            continue
        literal = nodes.literal(word, word)
        name = word.removesuffix("()")
        if name in ANCHORS:
            result.append(nodes.reference("", "", literal, internal=True, refid=name))
        else:
            result.append(literal)
    return result


def prose(text: str) -> list[nodes.Node]:
    """Paragraphs, with indented blocks kept as they are and lines that begin with a dash as a list."""
    result: list[nodes.Node] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        if all(line.startswith("  ") for line in lines) and not lines[0].lstrip().startswith("- "):
            literal = textwrap.dedent(block)
            result.append(nodes.literal_block(literal, literal, language="c"))
        elif lines[0].lstrip().startswith("- "):
            items = re.split(r"^\s*- ", block, flags=re.MULTILINE)[1:]
            entries = [
                nodes.list_item("", nodes.paragraph(item, "", *inline(item)))
                for item in items
                if item.strip()
            ]
            result.append(nodes.bullet_list("", *entries, bullet="-"))
        else:
            result.append(nodes.paragraph(block, "", *inline(block)))
    return result


# The names that the page being made declares, for `inline`.
ANCHORS: set[str] = set()


def strip_stars(comment: str) -> str:
    return re.sub(r"^ \*(?: |$)", "", comment, flags=re.MULTILINE)


def declaration(chunk: str, used: set[str]) -> list[nodes.Node]:
    """A declaration and its words. Names that `used` has not get their anchors here."""
    comment = COMMENT.match(chunk)
    code = (chunk[comment.end() :] if comment else chunk).strip("\n")
    result: list[nodes.Node] = []
    if code:
        block = nodes.literal_block(code, code, language="c")
        anchors = [nodes.target("", "", ids=[name]) for name in declared(code) if name not in used]
        used.update(declared(code))
        result += [*anchors, block]
    if comment:
        words = nodes.container("", *prose(strip_stars(" * " + comment.group("text").strip(" *\n"))))
        words["classes"].append("c-words")
        result.append(words)
    return result


class CHeader(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.doc2path(self.env.docname)).parent / self.arguments[0]
        self.env.note_dependency(str(path))
        text = path.read_text("utf-8")
        ANCHORS.clear()
        ANCHORS.update(declared(text))
        used: set[str] = set()
        result: list[nodes.Node] = []

        opening = re.match(r"/\*\n((?: \*.*\n)+?) \*/\n", text)
        if opening:
            _title, _, rest = strip_stars(opening.group(1)).partition("\n")
            result += prose(rest)

        banners = list(BANNER.finditer(text))
        for banner, following in zip(banners, [*banners[1:], None], strict=True):
            title, _, words = strip_stars(banner.group("text")).partition("\n")
            section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
            section += nodes.title(title, title)
            section += prose(words) if words.strip() else []
            code = text[banner.end() : following.start() if following else len(text)]
            code = re.split(r"#ifdef __cplusplus\n}", code)[0].strip("\n")
            for chunk in re.split(r"\n\n+", code):
                section += declaration(chunk, used)
            result.append(section)
        return result


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("c-header", CHeader)
    return {"parallel_read_safe": True}
