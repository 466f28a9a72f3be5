"""The grader of the exercises: ``python -m tlcourse grade``. It needs a clone, since the wheel holds no solutions.

A process that runs a stranger's code cannot be trusted with the score, so there are five stages: `intake` and `extract`
read the submission and execute nothing; `worker` runs the answers inside of a jail, and sends plain data back; `score`
compares them, outside, with what it computed itself; `export` writes what people and their systems read. `batch` drives
them over many submissions, and `prove` attacks the jail to see that it holds.

For schools with an engine of their own, ``python -m tlcourse export`` (`engines`) writes an assignment for Otter-Grader
(`otter`) or nbgrader (`nbgrader`), whose tests call `unjailed`.
"""
