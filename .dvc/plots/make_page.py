"""Makes page.html, the template of `dvc plots show`'s page, which contains Vega and needs no network. Start at `page`.

The versions are those that DVC's own page loads (dvc_render.vega.VegaRenderer.SCRIPTS), from npm:

    for p in vega@5.20.2 vega-lite@5.2.0 vega-embed@6.18.2; do npm pack $p; done
    for p in vega-5.20.2 vega-lite-5.2.0 vega-embed-6.18.2; do mkdir $p; tar xzf $p.tgz -C $p; done
    python .dvc/plots/make_page.py .

Without a folder, the scripts and their license stay those of page.html: for a change of page.css or page.js.
"""

import hashlib
import re
import sys
from pathlib import Path

# package, version, SHA-256 of its build/<package>.min.js
SCRIPTS = (
    ("vega", "5.20.2", "4794d0169cb1f3ebad8117fe98ba5bd652dd725905ec0384e832391dbccb03be"),
    ("vega-lite", "5.2.0", "d73157451b3978015ab31dacd55ff90d986ab8663fc0abed50f97b3cd90002cb"),
    ("vega-embed", "6.18.2", "1ba9826431ddc9805e815ad92acc811c819f2bfd32bda2a128b8c4b5070fab5e"),
)
# DVC replaces {plot_divs} by its plots and {refresh_tag} by its refresh tag; without {scripts} it adds no addresses to
# load. page.js comes after Vega, which it wraps, and before the plots.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh_tag}
<title>thaw: plots</title>
<style>
STYLE</style>
<!--
The scripts are Vega, Vega-Lite and Vega-Embed, unchanged, under this license:

LICENSE-->
SCRIPTS<script>
CODE</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""
for place, name in (("STYLE", "page.css"), ("CODE", "page.js")):
    PAGE = PAGE.replace(place, Path(__file__).with_name(name).read_text(encoding="utf-8"), 1)


def page(folder: Path) -> str:
    """The template, from the unpacked packages in `folder`."""
    scripts = ""
    for package, version, sha256 in SCRIPTS:
        file = folder / f"{package}-{version}" / "package" / "build" / f"{package}.min.js"
        code = file.read_bytes()
        if hashlib.sha256(code).hexdigest() != sha256:
            raise SystemExit(f"{file}: not {package} {version}: another SHA-256")
        scripts += f"<script>/* {package} {version} */\n{code.decode()}</script>\n"
    license = (folder / "vega-lite-5.2.0" / "package" / "LICENSE").read_text(encoding="utf-8")
    return PAGE.replace("LICENSE", license, 1).replace("SCRIPTS", scripts, 1)


def page_again(old: str) -> str:
    """The template, with the scripts and the license that this page has."""
    license = re.search(r"under this license:\n\n(.*?)-->", old, re.DOTALL)
    scripts = re.findall(r"<script>/\* .*?</script>\n", old, re.DOTALL)
    if license is None or len(scripts) != len(SCRIPTS):
        raise SystemExit("page.html: no scripts or no license; name the folder of the packages")
    return PAGE.replace("LICENSE", license.group(1), 1).replace("SCRIPTS", "".join(scripts), 1)


if __name__ == "__main__":
    file = Path(__file__).with_name("page.html")
    made = page(Path(sys.argv[1])) if sys.argv[1:] else page_again(file.read_text(encoding="utf-8"))
    file.write_text(made, encoding="utf-8")
