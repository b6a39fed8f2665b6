#!/usr/bin/env python3
"""Starts a cluster, and has each script of this folder talk to it. See README.md."""

import importlib.util
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NODES = 3
PATIENCE_SECS = 60


def free_port_base():
    """The first of three free ports in a row, thrice."""
    for base in range(20000 + os.getpid() % 10000, 60000, 10):
        sockets = []
        try:
            for port in range(base, base + 3 * NODES):
                sockets.append(socket.create_server(("127.0.0.1", port)))
            return base
        except OSError:
            continue
        finally:
            for opened in sockets:
                opened.close()
    raise SystemExit("no free ports")


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(5)
            connection.sendall(b"SET ready 1\r\n")
            return connection.recv(64).startswith(b"+OK")
    except OSError:
        return False


def packages_of(script):
    first = script.read_text().splitlines()[0]
    return first.removeprefix("# needs:").split()


def install(package, directory):
    """Whether the package is there now: fresh in the directory, or that of the system."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", directory]
    command += ["--root-user-action=ignore", "--disable-pip-version-check", package]
    if subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
        return True
    return importlib.util.find_spec(package.replace("-", "_")) is not None


def run_all(scripts, port):
    failed, left_out = [], []
    with tempfile.TemporaryDirectory() as directory:
        wanted = sorted({package for script in scripts for package in packages_of(script)})
        missing = {package for package in wanted if not install(package, directory)}
        environment = {**os.environ, "PYTHONPATH": directory, "PORT": str(port)}
        for script in scripts:
            if lacks := missing.intersection(packages_of(script)):
                left_out.append(f"{script.name}: {' '.join(sorted(lacks))} can't be had")
                continue
            done = subprocess.run([sys.executable, script], env=environment, timeout=300)
            print(script.name, "passed" if done.returncode == 0 else "FAILED", flush=True)
            if done.returncode != 0:
                failed.append(script.name)
    for line in left_out:
        print("left out:", line)
    return failed


def main():
    program = os.environ.get("LOGBOAT", ROOT / "target" / "debug" / "logboat")
    names = sys.argv[1:]
    scripts = sorted(HERE.glob("*_*.py"))
    scripts = [script for script in scripts if not names or script.name in names]
    base = free_port_base()
    command = [program, "demo", "--groups", "48", "--seconds", "1", "--nodes", str(NODES)]
    ports = zip(["client", "peer", "admin"], [base, base + NODES, base + 2 * NODES])
    for kind, port in ports:
        command += [f"--{kind}-port-base", str(port)]
    cluster = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_SECS
        while not answers(base):
            if time.monotonic() > deadline or cluster.poll() is not None:
                raise SystemExit("the cluster did not start")
            time.sleep(0.2)
        failed = run_all(scripts, base)
    finally:
        cluster.terminate()
        cluster.wait()
    sys.exit(f"failed: {' '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
