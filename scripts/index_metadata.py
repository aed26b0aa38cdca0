"""What a package index shows: the README, and the address of the project (scikit-build-core asks for both).

Whoever publishes says where the project lives, by QUANTIZE_URL in the environment; .github/workflows/ci.yml
does. Then links of the README to files of the project, which an index does not have, become links to that
address. Without it, they stay as they are, and the metadata have no addresses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?P<image>!?)(?P<text>\[[^\]]*\])\((?!https?://|#|mailto:)(?P<path>[^)\s]+)\)")


def absolute_links(text: str, url: str) -> str:
    """The README with links to the files of the project at `url`, a repository as GitHub shows it."""

    def link(found: re.Match[str]) -> str:
        kind = "raw" if found["image"] else "blob"
        return f"{found['image']}{found['text']}({url}/{kind}/HEAD/{found['path']})"

    return LINK.sub(link, text)


def dynamic_metadata(field: str, settings: Mapping[str, Any], *_: Any) -> Any:
    """The value of a field of [project] that pyproject.toml names as dynamic."""
    if settings:
        raise ValueError(f"{field} has no settings")
    url = os.environ.get("QUANTIZE_URL", "").rstrip("/")
    if field == "readme":
        text = (ROOT / "README.md").read_text("utf-8")
        return {"content-type": "text/markdown", "text": absolute_links(text, url) if url else text}
    if field != "urls":
        raise ValueError(f"no metadata for {field!r}")
    pages = {
        "Homepage": "",
        "Documentation": "/blob/HEAD/docs/index.md",
        "Changelog": "/blob/HEAD/CHANGELOG.md",
        "Issues": "/issues",
    }
    return {name: url + page for name, page in pages.items()} if url else {}
