"""Hooks of MkDocs: pages that are made from files outside docs/, so that each text is written once.

On disk the documents link to those files (`../CONTRIBUTING.md`), which is right in a checkout; on the site they link to the pages.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
GLOSSARY = re.compile(r"^## Glossary\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
PAGE_OF = {
    "CONTRIBUTING.md#glossary": "glossary.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
    "README.md": "index.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that come from the top of the checkout."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (glossary,) = GLOSSARY.findall(contributing)
    made = {
        "contributing.md": GLOSSARY.sub("", contributing),
        "glossary.md": glossary.replace("## Glossary", "# Glossary", 1),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "license.md": f"# Licence\n\n```text\n{(ROOT / 'LICENSE').read_text(encoding='utf-8')}\n```\n",
    }
    for name, content in made.items():
        files.append(File.generated(config, name, content=content.replace("](docs/", "](").replace("](#glossary)", "](glossary.md)")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links to files at the top of the checkout to their pages."""
    depth = page.file.src_uri.count("/")
    for name, to in PAGE_OF.items():
        target = "../" * depth + to
        markdown = markdown.replace(f"]({'../' * (depth + 1)}{name})", f"]({target})")
        if page.file.generated_by:  # its text stands at the top of the checkout
            markdown = markdown.replace(f"]({name})", f"]({target})")
    return markdown
