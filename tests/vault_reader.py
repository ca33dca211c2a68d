"""Reads vaults by pycryptomator, which shares no code with Scaup: each line of input, a JSON array [vault, password], is answered
by a line of JSON: every name, link and chunk in it, or {"error": why it can't be read}. Whatever Cryptomator would stumble over is an
error."""

import hashlib
import io
import json
import os
import stat
import sys

from pycryptomator import cryptomator
from pycryptomator.cryptomator import Vault

CHUNK = 32768


class Damaged(Exception):
    pass


def damaged(*what):
    raise Damaged(" ".join(map(str, what)))


# It prints what it finds damaged, and goes on.
cryptomator.print = damaged

opened = {}


def open_vault(path, password):
    if path not in opened:
        opened[path] = Vault(path, password)
    vault = opened[path]
    # Directories may have changed their places since the last time.
    vault.dirid_cache.clear()
    return vault


class Bytes(io.BytesIO):
    def close(self):
        pass


def join(directory, name):
    return directory.rstrip("/") + "/" + name


def names_in(vault, directory):
    info = vault.getInfo(directory)
    names = []
    for entry in os.scandir(info.realDir):
        if entry.name == "dirid.c9r" or not entry.name.endswith((".c9r", ".c9s")):
            continue
        name = entry.name
        if name.endswith(".c9s"):
            with open(os.path.join(entry.path, "name.c9s")) as long_name:
                name = long_name.read()
        names.append(vault.decryptName(info.dirId.encode(), name.encode()).decode())
    return sorted(names)


def read(vault, path, read_file):
    with open(path, "rb") as stored:
        content = Bytes()
        Vault._decryptf(vault.pk, stored, content)
        return read_file(content.getvalue())


def chunks(content):
    return [hashlib.sha256(content[at : at + CHUNK]).hexdigest() for at in range(0, len(content), CHUNK)]


def nodes(vault, directory="/"):
    for name in names_in(vault, directory):
        path = join(directory, name)
        info = vault.getInfo(path)
        if os.path.exists(info.symC9):
            yield path, {"link": {"target": read(vault, info.symC9, bytes.decode)}}
        elif info.isDir:
            yield path, {"directory": {}}
            yield from nodes(vault, path)
        elif info.exists and stat.S_ISREG(os.stat(info.contentsC9).st_mode):
            found = read(vault, info.contentsC9, lambda content: {"length": len(content), "chunks": chunks(content)})
            yield path, {"file": {"mode": stat.S_IMODE(os.stat(info.contentsC9).st_mode), **found}}
        else:
            raise Damaged(f"{path} is neither a file, a directory nor a link")


def tree(vault):
    found = {}
    for path, node in nodes(vault):
        if path in found:
            raise Damaged(f"{path} is there twice")
        found[path.lstrip("/")] = node
    return found


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            answer = tree(open_vault(*json.loads(line)))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
