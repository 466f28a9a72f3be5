"""One page a learner: what each task got, and why. No script, nothing loaded, and every text escaped."""

from html import escape

__all__ = ["page"]

STYLE = """body { font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc }
pre { background: #f4f4f4; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere }
.warning { border: 2px solid #a33; padding: .6rem }"""
# Nothing may run or load, whatever slipped through.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(result: dict, title: str, name: str) -> str:
    """The feedback of one submission as HTML.

    Parameters
    ----------
    result
        As in the schema of `export`.
    title, name
        Of the assignment, and of the learner.

    Examples
    --------
    >>> result = {"warning": "", "problem": "<b>", "notes": [], "score": 0.0, "max_score": 2.0, "tasks": []}
    >>> "&lt;b&gt;" in page(result, "Lesson", "Ada")
    True
    """
    rows = "".join(
        f"<tr><td>{_text(task['id'])} {_text(task['title'])}</td><td>{_text(task['status'])}</td>"
        f"<td>{task['score']:g} of {task['max_score']:g}</td></tr>"
        for task in result["tasks"]
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}: feedback</title>
<style>
{STYLE}
</style>
</head>
<body>
<h1>{_text(title)}</h1>
<p>{_text(name)}: {result["score"]:g} of {result["max_score"]:g} points</p>
{"".join(f'<p class="warning">{_text(said)}</p>' for said in (result["warning"], result["problem"]) if said)}
{_list(result["notes"])}
<table>
<thead><tr><th scope="col">Task</th><th scope="col">Result</th><th scope="col">Points</th></tr></thead>
<tbody>{rows}</tbody>
</table>
{"".join(map(_task, result["tasks"]))}
</body>
</html>
"""


def _task(task: dict) -> str:
    parts = [f"<h2>{_text(task['id'])} {_text(task['title'])}</h2>"]
    parts.append(_list([f"{'yes' if part['held'] else 'no'}: {part['title']}" for part in task["aspects"]]))
    if task["message"]:
        parts.append(f"<pre>{_text(task['message'])}</pre>")
    parts.append(_list(task["notes"]))
    if task["printed"]:
        parts.append(f"<p>Your code printed:</p><pre>{_text(task['printed'])}</pre>")
    return "<section>" + "".join(parts) + "</section>\n"


def _list(texts: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(text)}</li>" for text in texts) + "</ul>" if texts else ""


def _text(text: str) -> str:
    """Escaped, and by itself as to its direction."""
    return f"<bdi>{escape(text)}</bdi>"
