"""A process that has imported everything already, and forks itself for each command of the guide.

A command starts with seconds of imports, and the guide has dozens of commands. Nothing else is shared: each is a
process with a folder, an environment and streams of its own. This file runs as a script, since pytest's own process
has threads, and a forked child of threads can hang.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import socket
import sys
import traceback
from pathlib import Path

# What is found as `equivox` and `python`: it hands over its words, folder, environment and streams, and ends alike.
CLIENT = """#!{python} -IS
import json, os, socket, sys
told = {{"words": [{name!r}, *sys.argv[1:]], "folder": os.getcwd(), "environment": dict(os.environ)}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"+"], [0, 1, 2])
    server.sendall(json.dumps(told).encode())
    server.shutdown(socket.SHUT_WR)
    code = server.recv(8)
sys.exit(int(code) if code else "the command server ended")
"""

# Besides our own modules: what they, or torch, import only when it is needed.
LATER = ("matplotlib.pyplot", "scipy.stats", "sklearn.linear_model", "torch._dynamo")


def serve(folder: Path) -> None:
    """Put the commands into `folder`, say that they are ready, and answer them until the standard input ends."""
    _import_everything()
    with socket.socket(socket.AF_UNIX) as listener:
        address = str(folder / "socket")
        listener.bind(address)
        listener.listen()
        for name in ("equivox", "python"):
            command = folder / name
            command.write_text(CLIENT.format(python=sys.executable, name=name, address=address), encoding="utf-8")
            command.chmod(0o755)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _answer(connection)
            # Those that have answered; the command that was just begun is waited for by its own parent.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _import_everything() -> None:
    import equivox

    for module in pkgutil.walk_packages(equivox.__path__, "equivox."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LATER:
        importlib.import_module(name)
    # A collection in a child would touch, and so copy, all of it.
    gc.collect()
    gc.freeze()


def _answer(connection: socket.socket) -> None:
    """Run what is asked for in a child, and tell how it ended."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    told = json.loads(connection.makefile("rb").read())
    child = os.fork()
    if child == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # Made anew, since the server's remember whether what they led to could be sought in.
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        os.chdir(told["folder"])
        os.environ.clear()
        os.environ.update(told["environment"])
        _run(told["words"])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _run(words: list[str]) -> None:
    """Do as `equivox WORDS` or as `python -c TEXT` does, and end the process."""
    from equivox.cli.app import main

    code: object = 0
    try:
        if words[0] == "python":
            sys.argv = ["-c", *words[3:]]
            exec(compile(words[2], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - a block of the guide
        else:
            sys.argv = words
            main()
    except SystemExit as ended:
        code = ended.code or 0
        if not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
    except BaseException:  # noqa: BLE001 - what Python does with an exception that nobody caught
        traceback.print_exc()
        code = 1
    # Python's own way out takes all modules apart, which are still those of the server: a copy of each for seconds.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
