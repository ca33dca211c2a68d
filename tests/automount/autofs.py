"""An automount as systemd makes one (automount.c): a direct autofs mount whose owner runs a command in its own process group when somebody
goes there, and keeps that somebody waiting until the command has mounted.

Usage: autofs.py PLACE SECONDS COMMAND...  Says "mounted" when the program that went there has seen FILE in it, "hangs" when the command did
not end in time. Then waits for a line, ends what it made, and ends."""

import fcntl
import os
import struct
import subprocess
import sys

READY, FAIL = 0x9360, 0x9361  # AUTOFS_IOC_READY, AUTOFS_IOC_FAIL

place, patience, command = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
os.setpgid(0, 0)
asked, ask = os.pipe()
options = f"fd={ask},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
subprocess.run(["mount", "-t", "autofs", "-o", options, "scaup-test", place], pass_fds=[ask], check=True)
os.close(ask)
# Its owner wakes no automount.
root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
try:
    for line in sys.stdin:
        # Who goes there is in another group.
        going = subprocess.Popen(["ls", place], start_new_session=True, stdout=subprocess.PIPE, text=True)
        kind, token = struct.unpack_from("4xiI", os.read(asked, 4096))
        assert kind == 5, kind  # autofs_ptype_missing_direct
        running = subprocess.Popen(command)
        try:
            code = running.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
        fcntl.ioctl(root, READY if code == 0 else FAIL, token)
        seen = going.communicate(timeout=patience)[0].split()
        print("hangs" if code is None else f"ended {code}, seen {' '.join(seen)}", flush=True)
finally:
    os.close(root)
    os.close(asked)
    while subprocess.run(["umount", "-l", place], stderr=subprocess.DEVNULL).returncode == 0:
        pass
