"""Runs commands one after the other; what each one said and took, as JSON.

A small program of its own: the memory that the system counts of a child begins with that of its parent.

    run_each.py COMMANDS.json RESULTS.json
"""

import json
import os
import sys
import tempfile
from pathlib import Path


def run(command: list[str]) -> dict[str, object]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, err.fileno(), 2),
        ]
        child = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        _, status, usage = os.wait4(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("latin-1"))
    return {
        "code": os.waitstatus_to_exitcode(status),
        "memory": usage.ru_maxrss << 10,
        "seconds": usage.ru_utime + usage.ru_stime,
        "out": texts[0],
        "err": texts[1],
    }


if __name__ == "__main__":
    commands = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps([run(command) for command in commands]))
