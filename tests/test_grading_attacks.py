"""Hostile submissions, all in one batch with honest ones between: none changes a score, reads a secret, touches a file
outside, reaches another submission or stops the batch.

An attack is the source of some answers; those that it leaves alone are the reference's. What it may get is in the
table: task id -> points. Whatever it printed or raised is searched for `CANARY` and for what stands on this machine.
"""

import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.grading_course import CANARY, EXERCISES, FULL, LIMITS, REFERENCE, hand_in, marker
from tlcourse.grading import batch, intake, jail
from tlcourse.grading.score import TURNING

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first test waits for the whole batch
    pytest.mark.skipif(not jail.candidates(), reason="no jail can be had on this system"),
]
NONE, OTHERS = {"90.1": 0.0}, {"90.2": 2.0, "90.3": 2.0}
WRONG = "def scaled(values, factor):\n    return values + 100, 7.0\n"
# The end of an answer that tells what it found; it raises, so that the text comes back, and is wrong anyway.
TELL = "def scaled(values, factor):\n    raise RuntimeError(str(found)[:2000])\n"
BLOCK = "import contextlib\nfound = []\n"
# Finds the channel: the one descriptor above the usual ones that is a pipe.
CHANNEL = """
import os, stat
def channel():
    for number in range(3, 300):
        try:
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                return number
        except OSError:
            pass
"""


def at_call(code):
    """An answer to 90.1 that attacks when it is called, and not when its cell runs."""
    body = "\n".join("    " + line for line in code.strip().splitlines())
    return f"import os, sys, time\ndef scaled(values, factor):\n{body}\n    return values + 100, 7.0\n"


def sent(code):
    return CHANNEL + f"import json, struct\nout = channel()\n{code}\n" + WRONG


# Name -> (sources, points): answers whose value is no answer.
VALUES = {
    "equal to everything": "type('Yes', (), {'__eq__': lambda *a: True, '__float__': lambda s: 1.0})()",
    "a tensor that lies": "type('T', (), {'requires_grad': 0, 'numpy': lambda s, **k: s, 'copy': lambda s: values})()",
    "NaN": "values * float('nan')",
    "infinities": "values * float('inf')",
    "another shape": "values[:, None] * factor",
    "nothing": "None",
    "texts": "['1.0'] * len(values)",
    "complex": "(values * factor).to(torch.complex64)",
    "another device": "torch.empty(len(values), device='meta')",
    "sparse": "(values + 100).to_sparse()",
    "a generator": "(v for v in values)",
    "an endless list": "(lambda a: a.append(a) or a)([])",
    "very deep": "__import__('functools').reduce(lambda a, _: [a], range(100000), 0)",
    "a huge number": "10 ** 10000",
    "a huge array": "np.zeros(10 ** 8)",
    "an array of objects": "np.array([object()] * len(values))",
    "bytes": "b'1'",
    "a class": "int",
    "score beyond its range": "{'score': 1e9, 'scaled': 1e9}",
}
RAISED = {
    "sys.exit": "sys.exit(0)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "an exception whose text raises": "raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})()",
    "an exception whose name is no name": "raise type('<b>' * 100, (BaseException,), {})()",
    "recursion": "(lambda f: f(f))(lambda f: f(f))",
    "a text that turns around": "raise ValueError('\\u202e\\ud800<script>alert(1)</script>\\x1b[2J')",
}
ENDED = {
    "os._exit": "os._exit(0)",
    "kill the group": "os.kill(0, 9)",
    "kill everybody": "os.kill(-1, 9)",
    "abort": "os.abort()",
    "segmentation fault": "__import__('ctypes').string_at(0)",
    "stop itself": "os.kill(os.getpid(), 19)",
    "close everything": "os.closerange(0, 1000)",
    "no more memory": "x = [bytearray(b'1') * 10 ** 8 for _ in range(1000)]",
    "endless loop": "while True: pass",
    "endless loop that catches": "while True:\n    try:\n        time.sleep(100)\n    except BaseException: continue",
    "replaced exit": "os._exit = lambda *a: None; sys.exit = os._exit; os.closerange(0, 1000)",
}
ATTACKS = {
    **{f"value: {n}": ({"90.1": at_call(f"return {v}, 7.0")}, NONE | OTHERS) for n, v in VALUES.items()},
    **{f"raised: {n}": ({"90.1": at_call(code)}, NONE | OTHERS) for n, code in RAISED.items()},
    **{f"ended: {n}": ({"90.1": at_call(code)}, NONE | OTHERS) for n, code in ENDED.items()},
    "ended: in the cell": ({"90.2": "import os\nos._exit(0)"}, {"90.1": 4.0, "90.2": 0.0, "90.3": 2.0}),
    "ended: the last": ({"90.3": "import os\nos._exit(0)"}, {"90.1": 4.0, "90.2": 2.0, "90.3": 0.0}),
    "ended: at the very end": (
        {"90.3": "import atexit, os\natexit.register(os._exit, 1)\n" + REFERENCE["90.3"]},
        FULL,
    ),
    "a loop in the cell": ({"90.2": "while True: pass"}, {"90.1": 4.0, "90.2": 0.0, "90.3": 2.0}),
    "input": ({"90.2": "name = input('your name')"}, {"90.1": 4.0, "90.2": 0.0, "90.3": 2.0}),
    "no Python": ({"90.1": "def scaled(:\n"}, NONE | OTHERS),
    "endless cells": (dict.fromkeys(REFERENCE, "x = '" + "\U0001f600" * 49_000 + "'\n"), dict.fromkeys(FULL, 0.0)),
    "a null byte": ({"90.1": "x = 1\x00\n"}, NONE | OTHERS),
    "another name": ({"90.1": "def rescaled(values, factor): return values"}, NONE | OTHERS),
    "rebound checks": ({"90.1": "check = grade = hint = judge = lambda *a, **k: 'passed'\n" + WRONG}, NONE | OTHERS),
    "printed scores": (
        {"90.1": 'print(\'{"task": "90.1", "score": 4.0, "status": "right"}\')\nprint("TLC1" * 1000)\n' + WRONG},
        NONE | OTHERS,
    ),
    "printed without end": ({"90.1": at_call("for _ in range(200): print('x' * 10 ** 6)")}, NONE | OTHERS),
    "patched comparisons": (
        {
            "90.1": "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True\n"
            "np.isclose = np.allclose = np.array_equal = lambda *a, **k: True\nnp.ndarray.__eq__ if 0 else None\n"
            "import sys, tlcourse.grading.channel as c\nc.same = lambda *a: True\n"
            "sys.excepthook = lambda *a: None\n" + WRONG
        },
        NONE | OTHERS,
    ),
    "patched built-ins": (
        {"90.1": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.abs = lambda x: 0\n" + WRONG},
        NONE,
    ),
    "showtraceback": (
        {
            "90.1": "import sys, types\nsys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: None)\n"
            "def showtraceback(*a, **k): print('passed')\n" + WRONG
        },
        NONE | OTHERS,
    ),
    "inputs overwritten": (
        {"90.1": "def scaled(values, factor):\n    values *= factor\n    return values, values.sum()"},
        NONE | OTHERS,
    ),
    "frames": (
        {
            "90.1": BLOCK + "import sys\nframe = sys._getframe()\nwhile frame:\n"
            "    found.append(str(frame.f_locals) + str(frame.f_globals))\n    frame = frame.f_back\n"
            "assert 'y-0d9' + 'c1f' not in str(found), 'SECRET SEEN'\n" + TELL
        },
        NONE | OTHERS,
    ),
    "gc": (
        {
            "90.1": BLOCK + "import gc\n"
            "found = [str(x)[:300] for x in gc.get_objects() if 'oracle' in str(type(x)) or 'canary' in str(x)[:300]]\n"
            "found += [m for m in __import__('sys').modules if 'grading_course' in m]\n"
            "assert 'y-0d9' + 'c1f' not in str(found), 'SECRET SEEN'\n" + TELL
        },
        NONE | OTHERS,
    ),
    "/proc": (
        {
            "90.1": BLOCK
            + "import os\nfor p in os.listdir('/proc'):\n    for name in ('environ', 'cmdline', 'maps'):\n"
            "        with contextlib.suppress(OSError):\n"
            "            found += [open(f'/proc/{p}/{name}', errors='replace').read()[:300]] if p.isdigit() else []\n"
            "    with contextlib.suppress(OSError):\n"
            "        fd = f'/proc/{p}/fd/'\n        found += [os.readlink(fd + n) for n in os.listdir(fd)]\n" + TELL
        },
        NONE | OTHERS,
    ),
    "memory of others": (
        {
            "90.1": BLOCK
            + "import os\nfor p in [x for x in os.listdir('/proc') if x.isdigit() and int(x) != os.getpid()]:\n"
            "    with contextlib.suppress(OSError):\n        open(f'/proc/{p}/mem', 'rb').read(1)\n"
            "        found.append('read the memory of ' + p)\nassert not found, 'MEMORY READ'\n" + WRONG
        },
        NONE | OTHERS,
    ),
    "search of the disk": (
        {
            "90.1": BLOCK
            + "import os\nfor top in ('/course', '/home', '/root', '/work', '/tmp', '/var', '/mnt', '/opt'):\n"
            "    for folder, inside, files in os.walk(top):\n"
            "        if '.venv' in folder or '.pyenv' in folder or 'site-packages' in folder:\n"
            "            inside.clear()\n            continue\n        for name in files:\n"
            "            with contextlib.suppress(OSError, ValueError):\n"
            "                text = open(os.path.join(folder, name)).read()\n"
            "                telling = 'canary' in text or 'SOLUTION' in text or 'oracle' in text\n"
            "                if telling and name != 'spec.py': found.append((folder, name, text))\n" + TELL
        },
        NONE | OTHERS,
    ),
    "the course's checks": (
        {
            "90.1": BLOCK + "import importlib, pkgutil, tlcourse\n"
            "for m in pkgutil.walk_packages(tlcourse.__path__, 'tlcourse.'):\n"
            "    if 'check' in m.name or 'grading' in m.name:\n        with contextlib.suppress(Exception):\n"
            "            mod = importlib.import_module(m.name)\n"
            "            found += [n for n in dir(mod) if 'oracle' in n.lower() or n == 'EXERCISES']\n"
            "with contextlib.suppress(ImportError):\n    import tests.grading_course as g\n    found.append(g.CANARY)\n"
            "assert not found, 'ORACLE ' + str(found)\n" + WRONG
        },
        NONE | OTHERS,
    ),
    "network": (
        {
            "90.1": BLOCK + "import socket, urllib.request\n"
            "for family, address in ((2, ('1.1.1.1', 53)), (2, ('127.0.0.1', 22)), (40, (2, 1)), (16, (0, 0))):\n"
            "    for kind in (1, 2, 3):\n        with contextlib.suppress(OSError):\n"
            "            s = socket.socket(family, kind); s.settimeout(0.2)\n"
            "            s.connect(address); found.append(address)\n"
            "assert not found, 'CONNECTED'\n" + WRONG
        },
        NONE | OTHERS,
    ),
    "fork bomb": ({"90.1": at_call("while True:\n    try: os.fork()\n    except OSError: pass")}, NONE | OTHERS),
    "thread bomb": (
        {
            "90.1": at_call(
                "import threading\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(99,)).start()\n"
                "    except RuntimeError: break"
            )
        },
        NONE | OTHERS,
    ),
    "disk bomb": (
        {
            "90.1": "import os\ntry:\n    for n in range(100):\n        open(f'/tmp/{n}', 'wb').write(bytes(10 ** 6))\n"
            "except OSError: full = True\nassert full\n" + REFERENCE["90.1"]
        },
        FULL,
    ),
    "memory that no limit counts": (
        {
            "90.1": BLOCK + "import os, mmap\n"
            "with contextlib.suppress(OSError):\n    os.memfd_create('x'); found.append('memfd')\n"
            "m, chunk = mmap.mmap(-1, 3 * 10 ** 9), b'1' * 10 ** 7\nfor _ in range(300): m.write(chunk)\n"
            "found.append('shared')\n"
            "assert not found, 'UNCOUNTED'\n" + WRONG
        },
        NONE | OTHERS,
    ),
    "output bomb": ({"90.1": sent("while True: os.write(out, struct.pack('<4sIQ', b'TLC1', 2, 0) + b'[]')")}, NONE),
    "one endless message": (
        {
            "90.1": sent(
                "os.write(out, struct.pack('<4sIQ', b'TLC1', 2, 60_000_000))\nwhile True: os.write(out, bytes(10**6))"
            )
        },
        NONE,
    ),
    "noise": ({"90.1": sent("os.write(out, b'passed' * 100)")}, NONE),
    "a pickle": ({"90.1": sent("import pickle; os.write(out, pickle.dumps(print))")}, NONE),
    "begun again and again": (
        {
            "90.1": sent(
                "import time\ntext = json.dumps({'task': '90.1', 'begin': True}).encode()\n"
                "while True:\n    os.write(out, struct.pack('<4sIQ', b'TLC1', len(text), 0) + text); time.sleep(0.5)"
            )
        },
        NONE,
    ),
    "forged messages": (
        {
            "90.1": sent(
                "for value in ({'task': '90.1', 'draw': 0, 'value': {'scaled': 'right', 'held': True, 'score': 4}},\n"
                "  {'task': '90.1', 'draw': -1, 'value': {}}, {'task': ['90.1'], 'draw': 0, 'value': {}},\n"
                "  {'task': '90.1', 'draw': 1e99, 'score': 9}, [], None, 7, {'done': True},\n"
                "  {'task': '99.9', 'begin': True},\n"
                "  {'task': '90.1', 'draw': True, 'error': [[]], 'printed': 7},\n"
                "  {'task': '90.1', 'draw': 1, 'error': 7}):\n"
                "    text = json.dumps(value).encode()\n"
                "    os.write(out, struct.pack('<4sIQ', b'TLC1', len(text), 0) + text)"
            )
        },
        NONE,
    ),
    "a word to the grader": (
        {"90.1": "import os\nos.write(2, b'{\"done\": true, \"code\": 0}\\n'); os.write(1, b'TLC1')\n" + WRONG},
        NONE | OTHERS,
    ),
    "patched channel": (
        {
            "90.1": "import tlcourse.grading.channel as c\npacked = c.pack\n"
            "c.pack = lambda v: packed(v | {'value': {'scaled': 1e9, 'total': 'all'}} if 'draw' in v else v)\n" + WRONG
        },
        {"90.1": 0.0, "90.2": 0.0, "90.3": 0.0},
    ),
    "writing outside": (
        {
            "90.1": BLOCK
            + "import os, sys, torch\nplaces = ['/course/tlcourse/torch.py', '/course/x', '/usr/x', '/x', '/dev/x',\n"
            "  os.path.dirname(torch.__file__) + '/x', sys.prefix + '/x', '/etc/x', '/proc/sys/kernel/core_pattern']\n"
            "for place in places:\n    with contextlib.suppress(OSError):\n"
            "        open(place, 'w').close(); found.append(place)\n"
            "assert not found, 'WROTE'\n" + WRONG
        },
        NONE | OTHERS,
    ),
    "shadowed modules": (
        {
            "90.1": "import os, sys\nfor name in ('torch.py', 'numpy.py', 'sitecustomize.py', 'conftest.py'):\n"
            "    open('/tmp/' + name, 'w').write('raise SystemExit')\n"
            "os.makedirs('/tmp/tlcourse', exist_ok=True)\nsys.path.insert(0, '/tmp')\nsys.modules.pop('torch')\n"
            + WRONG
        },
        NONE,
    ),
    "children that stay": (
        {
            "90.1": "import os, time, threading\nfor _ in range(5):\n    if os.fork() == 0:\n        os.setsid()\n"
            "        if os.fork() == 0:\n            open(f'/tmp/left-{os.getpid()}', 'w').close()\n"
            "            open(f'/dev/shm/left-{os.getpid()}', 'w').close()\n            time.sleep(900)\n"
            "        os._exit(0)\n"
            "threading.Thread(target=time.sleep, args=(900,)).start()\n" + REFERENCE["90.1"]
        },
        FULL,
    ),
    "tracing": (
        {
            "90.1": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\n"
            "sys.setrecursionlimit(10**8)\n"
            "def down(n): return down(n + 1)\n" + at_call("sys.path.clear()\nsys.modules.clear()")
        },
        NONE,
    ),
}
# An honest answer that looks around first: in a clean jail it finds nothing and nobody.
WITNESS = {
    **REFERENCE,
    "90.2": "import os\nassert os.listdir('/tmp') == [], os.listdir('/tmp')\n"
    "assert os.listdir('/dev/shm') == [], os.listdir('/dev/shm')\n"
    "assert len([p for p in os.listdir('/proc') if p.isdigit()]) <= 2\n"
    "assert not __import__('sys').settrace is None and torch.allclose(torch.ones(1), torch.zeros(1)) is False\n"
    + REFERENCE["90.2"],
}
ALL_NAMES = list(ATTACKS)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Files that nobody may change: (path, bytes, time)."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "notes.txt").write_text(CANARY, encoding="utf-8")
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def graded(tmp_path_factory, watched):
    """One batch of all attacks, with a witness after every fourth: id -> result, the batch's summary, and seconds."""
    folder, out = tmp_path_factory.mktemp("handed-in"), tmp_path_factory.mktemp("results")
    for number, (sources, _) in enumerate(ATTACKS.values()):
        hand_in(folder, f"{number:03}-attack", REFERENCE | sources)
        if number % 4 == 3:
            hand_in(folder, f"{number:03}-witness", WITNESS)
    began, before = time.monotonic(), _descendants()
    summary = batch.grade_all(marker(jail.choose()), intake.find_submissions(folder), out, jobs=2)
    results = {result["id"]: result for result in summary.pop("results")}
    left = [process for process in _descendants() if process not in before]
    return results, summary, time.monotonic() - began, left


def _descendants():
    return psutil.Process().children(recursive=True)


def points(result):
    return {task["id"]: task["score"] for task in result["tasks"]}


@pytest.mark.parametrize("number", range(len(ATTACKS)), ids=ALL_NAMES)
def test_an_attack_gets_what_its_answers_are_worth(number, graded):
    _, expected = ATTACKS[ALL_NAMES[number]]
    result = graded[0][f"{number:03}-attack"]
    assert {task: points(result)[task] for task in expected} == expected, result["tasks"]
    assert all(0 <= task["score"] <= task["max_score"] for task in result["tasks"])
    assert result["score"] == sum(points(result).values())


@pytest.mark.parametrize("number", range(len(ATTACKS)), ids=ALL_NAMES)
def test_an_attack_learns_nothing(number, graded):
    text = json.dumps(graded[0][f"{number:03}-attack"], ensure_ascii=False)
    text = text.replace('"misconception": ', "")  # a result's own key; the word in what came back would be a source's
    text = text.replace(sys.prefix, "")  # its own interpreter, which may lie in the clone, an answer may know
    for secret in (CANARY, "oracle_", "TLCOURSE_CONNECTIONS", "PYTEST_CURRENT_TEST", "misconception", os.getcwd()):
        assert secret not in text.replace("ORACLE", "")
    for cry in ("CONNECTED", "WROTE", "UNCOUNTED", "MEMORY READ", "ORACLE", "SECRET SEEN"):
        assert cry not in text
    assert not TURNING.search(text)
    assert "\x1b" not in text


def test_the_batch_went_through(graded):
    results, summary, _, _ = graded
    assert len(results) == len(ATTACKS) + len(ATTACKS) // 4
    assert summary["warm"], "here each submission could have namespaces of its own"


def test_honest_submissions_between_are_untouched(graded):
    witnesses = [result for name, result in graded[0].items() if name.endswith("witness")]
    assert len(witnesses) > 10
    assert [points(result) for result in witnesses] == [FULL] * len(witnesses), witnesses[0]["tasks"]


def test_nothing_outside_was_touched(graded, watched):
    assert [path.name for path in watched.iterdir()] == ["notes.txt"]
    assert (watched / "notes.txt").read_text(encoding="utf-8") == CANARY
    for place in ("/x", "/usr/x", "/etc/x", "/dev/x", "/tmp/torch.py", "/tmp/sitecustomize.py"):
        assert not Path(place).exists()


def test_nothing_is_left_running(graded):
    """Whoever was started for the batch is gone, and whoever they started."""
    assert [process for process in graded[3] if process.is_running()] == []


def test_the_table_covers_every_task():
    assert {exercise.id for exercise in EXERCISES} == FULL.keys() == REFERENCE.keys()
    assert LIMITS.memory < 2_000_000_000
