"""Compares a vault with a directory: every name, link and byte, read by pycryptomator, which shares no code with Scaup.

Arguments: the vault, its password, the directory to compare with.
"""

import io
import os
import sys

from pycryptomator.cryptomator import Vault

path, password, expected = sys.argv[1:4]
vault = Vault(path, password)


class Bytes(io.BytesIO):
    def close(self):
        pass


def join(directory, name):
    return directory.rstrip("/") + "/" + name


def names_in(directory):
    info = vault.getInfo(directory)
    names = []
    for entry in os.scandir(info.realDir):
        if entry.name == "dirid.c9r" or not entry.name.endswith((".c9r", ".c9s")):
            continue
        name = entry.name
        if name.endswith(".c9s"):
            with open(os.path.join(entry.path, "name.c9s")) as long_name:
                name = long_name.read()
        names.append(vault.decryptName(info.dirId.encode() if isinstance(info.dirId, str) else info.dirId, name.encode()))
    return sorted(name.decode() if isinstance(name, bytes) else name for name in names)


def compare(directory, beside):
    names = names_in(directory)
    there = sorted(os.listdir(beside))
    assert names == there, (directory, names, there)
    count = 0
    for name in names:
        inside, outside = join(directory, name), os.path.join(beside, name)
        info = vault.getInfo(inside)
        assert info.exists, inside
        if os.path.islink(outside):
            assert info.pointsTo, inside
            link = Bytes()
            with open(info.symC9, "rb") as stored:
                Vault._decryptf(vault.pk, stored, link)
            assert link.getvalue().decode() == os.readlink(outside), inside
        elif os.path.isdir(outside):
            assert info.isDir, inside
            count += compare(inside, outside)
        else:
            content = Bytes()
            vault.decryptFile(inside, content)
            with open(outside, "rb") as stored:
                assert content.getvalue() == stored.read(), inside
            mode = os.stat(info.contentsC9).st_mode & 0o777
            assert mode == os.stat(outside).st_mode & 0o777, (inside, oct(mode))
        count += 1
    return count


print(compare("/", expected), "entries are equal")
