"""Reads vaults by pycryptomator, which shares no code with Scaup: each line of input, a JSON array [vault, password], is answered
by a line of JSON: every name, link and chunk in it, or {"error": why it can't be read}. Whatever Cryptomator would stumble over is an
error."""

import hashlib
import hmac
import io
import itertools
import json
import os
import stat
import sys

from pycryptomator import cryptomator
from pycryptomator.cryptomator import AES, Vault, aes_unwrap, d64

CHUNK = 32768
MAC = 32


class Damaged(Exception):
    pass


def damaged(*what):
    raise Damaged(" ".join(map(str, what)))


# It prints what it finds damaged, and goes on.
cryptomator.print = damaged


def claims(path):
    """What a vault says that it is. Format 7 has no file that says so."""
    try:
        with open(os.path.join(path, "vault.cryptomator"), "rb") as config:
            return json.loads(d64(config.read().split(b".")[1], 1))
    except FileNotFoundError:
        return {"format": 7, "cipherCombo": "SIV_CTRMAC", "shorteningThreshold": 220}


class SivGcm(Vault):
    def decrypt(self, stored, content):
        Vault._decryptf(self.pk, stored, content)


class SivCtrMac(Vault):
    """pycryptomator refuses it. Names and directories are as in SIV_GCM and left to it; keys and content are read here, by nothing
    but the format."""

    def __init__(self, path, password):
        self.base, self.dirid_cache = path, {}
        with open(os.path.join(path, "masterkey.cryptomator")) as file:
            master = json.load(file)
        salt, cost, block = d64(master["scryptSalt"]), master["scryptCostParam"], master["scryptBlockSize"]
        wrapping = hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=1, maxmem=2**31 - 1, dklen=32)
        self.pk, self.hk = (aes_unwrap(wrapping, d64(master[key])) for key in ("primaryMasterKey", "hmacMasterKey"))
        claimed = claims(path)
        self.shorteningThreshold = claimed["shorteningThreshold"]
        if claimed["format"] == 7:
            authentic("the version", self.hk, (7).to_bytes(4, "big"), d64(master["versionMac"]))
        else:
            with open(os.path.join(path, "vault.cryptomator"), "rb") as config:
                signed, signature = config.read().rsplit(b".", 1)
            authentic("the config", self.pk + self.hk, signed, d64(signature, 1))
        root = self.hashDirId("")
        self.root = os.path.join(path, "d", root[:2], root[2:])

    def resolveSymlink(self, path, link):
        # Links are read here and not followed.
        return "/", "/"

    def decrypt(self, stored, content):
        header = stored.read(16 + 40 + MAC)
        authentic("the header", self.hk, header[:-MAC], header[-MAC:])
        nonce = header[:16]
        key = ctr(self.pk, nonce, header[16:-MAC])[8:]
        for number in itertools.count():
            chunk = stored.read(16 + CHUNK + MAC)
            if not chunk:
                return
            authenticated = nonce + number.to_bytes(8, "big") + chunk[:-MAC]
            authentic(f"chunk {number}", self.hk, authenticated, chunk[-MAC:])
            content.write(ctr(key, chunk[:16], chunk[16:-MAC]))


def authentic(what, key, data, mac):
    if not hmac.compare_digest(hmac.digest(key, data, "sha256"), mac):
        damaged(what, "does not authenticate")


def ctr(key, counter, data):
    return AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=counter).decrypt(data)


READERS = {"SIV_GCM": SivGcm, "SIV_CTRMAC": SivCtrMac}
opened = {}


def open_vault(path, password):
    if path not in opened:
        opened[path] = READERS[claims(path)["cipherCombo"]](path, password)
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
        vault.decrypt(stored, content)
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
        # pycryptomator raises BaseException itself for a wrong password.
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
