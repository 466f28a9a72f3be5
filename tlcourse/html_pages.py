"""A page of HTML that runs no script and loads nothing: the frame of the grader's feedback and of transfer's report."""

from html import escape

__all__ = ["html_page", "html_text"]

STYLE = """body { font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc; vertical-align: top }"""


def html_text(text: str) -> str:
    """Escaped, and by itself as to its direction.

    Examples
    --------
    >>> html_text("a < b")
    '<bdi>a &lt; b</bdi>'
    """
    return f"<bdi>{escape(text)}</bdi>"


def html_page(title: str, body: str, *, style: str, images: bool = False) -> str:
    """A whole page; nothing may run or load, whatever slipped into it.

    Parameters
    ----------
    title
        Any text.
    body
        HTML, whose texts are escaped already.
    style
        CSS beside that of all pages.
    images
        Whether those that the page itself holds, as data, are shown.

    Examples
    --------
    >>> page = html_page("R & D", "<h1>Report</h1>", style="", images=True)
    >>> "<title>R &amp; D</title>" in page, "img-src data:" in page
    (True, True)
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'" + ("; img-src data:" if images else "")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
{STYLE}
{style}
</style>
</head>
<body>
{body}
</body>
</html>
"""
