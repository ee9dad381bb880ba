"""Makes page.html, the template of `dvc plots show`'s page, which contains Vega and needs no network. Start at `page`.

The versions are those that DVC's own page loads (dvc_render.vega.VegaRenderer.SCRIPTS), from npm:

    for p in vega@5.20.2 vega-lite@5.2.0 vega-embed@6.18.2; do npm pack $p; done
    for p in vega-5.20.2 vega-lite-5.2.0 vega-embed-6.18.2; do mkdir $p; tar xzf $p.tgz -C $p; done
    python .dvc/plots/make_page.py .
"""

import hashlib
import sys
from pathlib import Path

# package, version, SHA-256 of its build/<package>.min.js
SCRIPTS = (
    ("vega", "5.20.2", "4794d0169cb1f3ebad8117fe98ba5bd652dd725905ec0384e832391dbccb03be"),
    ("vega-lite", "5.2.0", "d73157451b3978015ab31dacd55ff90d986ab8663fc0abed50f97b3cd90002cb"),
    ("vega-embed", "6.18.2", "1ba9826431ddc9805e815ad92acc811c819f2bfd32bda2a128b8c4b5070fab5e"),
)
# DVC replaces {plot_divs} by its plots and {refresh_tag} by its refresh tag; without {scripts} it adds no addresses to
# load. Its images stand in tables below the charts.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh_tag}
<title>thaw: plots</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; color: #222; margin: 1.5rem; }
body > div { display: inline-block; vertical-align: top; margin: 0 1.5rem 1.5rem 0; max-width: 100%; overflow-x: auto; }
img { max-width: 100%; height: auto; }
td, th { text-align: left; vertical-align: top; padding: 0 1rem 0.5rem 0; }
</style>
<!--
The scripts are Vega, Vega-Lite and Vega-Embed, unchanged, under this license:

LICENSE-->
SCRIPTS</head>
<body>
{plot_divs}
</body>
</html>
"""


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


if __name__ == "__main__":
    Path(__file__).with_name("page.html").write_text(page(Path(sys.argv[1])), encoding="utf-8")
