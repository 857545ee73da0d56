"""Pictures that git tracks outside docs/, where runs write them: pages link them as they lie, and the site copies them."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

PICTURE = re.compile(r"(!\[[^\]]*\]\()([^)\s]+\.png)")
FOLDER = "pictures"


def on_files(files: Files, config: Any) -> Files:
    """Adds every picture outside docs/ that some page shows. Raises PluginError for one that is not there."""
    docs = Path(config.docs_dir)
    for page in files.documentation_pages():
        for _, link in PICTURE.findall(page.content_string):
            path = outside(page.src_uri, link)
            if path is None or f"{FOLDER}/{path}" in files.src_uris:
                continue
            if not (docs.parent / path).is_file():
                raise PluginError(f"{page.src_uri}: {link} is not there")
            files.append(File.generated(config, f"{FOLDER}/{path}", abs_src_path=str(docs.parent / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to pictures outside docs/ as links to their copies."""
    here = posixpath.dirname(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        path = outside(page.file.src_uri, found[2])
        return found[0] if path is None else found[1] + posixpath.relpath(f"{FOLDER}/{path}", here or ".")

    return PICTURE.sub(link, markdown)


def outside(page: str, link: str) -> str | None:
    """Where a page's link leads, from the project's folder; None where that is in docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith("docs/") else path
