"""One page a learner: what each task got, and why. No script, nothing loaded, and every text escaped."""

from tlcourse.html_pages import html_page, html_text

__all__ = ["page"]

STYLE = """pre { background: #f4f4f4; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere }
.warning { border: 2px solid #a33; padding: .6rem }"""


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
        f"<tr><td>{html_text(task['id'])} {html_text(task['title'])}</td><td>{html_text(task['status'])}</td>"
        f"<td>{task['score']:g} of {task['max_score']:g}</td></tr>"
        for task in result["tasks"]
    )
    body = f"""<h1>{html_text(title)}</h1>
<p>{html_text(name)}: {result["score"]:g} of {result["max_score"]:g} points</p>
{"".join(f'<p class="warning">{html_text(said)}</p>' for said in (result["warning"], result["problem"]) if said)}
{_list(result["notes"])}
<table>
<thead><tr><th scope="col">Task</th><th scope="col">Result</th><th scope="col">Points</th></tr></thead>
<tbody>{rows}</tbody>
</table>
{"".join(map(_task, result["tasks"]))}"""
    return html_page(f"{title}: feedback", body, style=STYLE)


def _task(task: dict) -> str:
    parts = [f"<h2>{html_text(task['id'])} {html_text(task['title'])}</h2>"]
    parts.append(_list([f"{'yes' if part['held'] else 'no'}: {part['title']}" for part in task["aspects"]]))
    if task["message"]:
        parts.append(f"<pre>{html_text(task['message'])}</pre>")
    parts.append(_list(task["notes"]))
    if task["printed"]:
        parts.append(f"<p>Your code printed:</p><pre>{html_text(task['printed'])}</pre>")
    return "<section>" + "".join(parts) + "</section>\n"


def _list(texts: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{html_text(text)}</li>" for text in texts) + "</ul>" if texts else ""
