"""The server's side: OpenSSH on loopback, a road before it that can be long and narrow, and counts of what passes."""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Road:
    """What lies between: a round trip time in ms, and megabits per second (0: as many as the machine can)."""

    rtt: int = 0
    mbit: int = 0

    def __str__(self):
        return f"RTT {self.rtt} ms" + (f", {self.mbit} Mbit/s" if self.mbit else "")

    @property
    def is_direct(self):
        """Whether it needs no proxy, which would cost as much as the server itself."""
        return self == Road()


@dataclass(frozen=True)
class Counts:
    """What has passed so far: bytes on the wire, and SFTP requests."""

    sent: int
    received: int
    requests: int

    def since(self, before):
        return Counts(self.sent - before.sent, self.received - before.received, self.requests - before.requests)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """An OpenSSH server that lets root in by a key of its own, with its files in memory."""

    host, user = "127.0.0.1", "root"

    def __init__(self, place, programs):
        self.files, self.keys, self.counts_in = place / "server", place / "keys", place / "counts"
        self.programs, self.processes = programs, []
        self.port, self.road_port, self.proxy = free_port(), None, None

    def start(self):
        for directory in (self.files, self.keys, self.counts_in):
            directory.mkdir()
        # So that no disk is measured.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8g", "tmpfs", self.files], check=True)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.keys / name], check=True)
        self._start_sshd(self.programs / "counting-sftp-server")
        self.proxy = subprocess.Popen([self.programs / "road", self.host, str(self.port)], text=True, bufsize=1,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.processes.append(self.proxy)
        self.road_port = int(self.proxy.stdout.readline())
        public = (self.keys / "host.pub").read_text()
        self.known_hosts.write_text("".join(f"[{self.host}]:{port} {public}" for port in (self.port, self.road_port)))
        self.ssh_config.write_text(
            f"User {self.user}\nIdentityFile {self.key}\nIdentitiesOnly yes\nUserKnownHostsFile {self.known_hosts}\n")

    key = property(lambda self: self.keys / "user")
    known_hosts = property(lambda self: self.keys / "known_hosts")
    ssh_config = property(lambda self: self.keys / "ssh_config")

    def _start_sshd(self, subsystem):
        Path("/run/sshd").mkdir(exist_ok=True)
        configuration = self.keys / "sshd_config"
        configuration.write_text(
            f"Port {self.port}\nListenAddress {self.host}\nHostKey {self.keys}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.keys}/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
            f"PasswordAuthentication no\nLogLevel FATAL\nSubsystem sftp {subsystem} {self.counts_in}\n")
        self.processes.append(subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", configuration],
                                               start_new_session=True))
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((self.host, self.port)).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise SystemExit("the SSH server does not start") from None
                time.sleep(0.05)

    def _tell(self, command):
        self.proxy.stdin.write(command + "\n")
        return self.proxy.stdout.readline().strip()

    def lay(self, road):
        """Makes the road so from now on; answers the port that leads over it."""
        self._tell(f"delay {road.rtt / 2}")
        self._tell(f"rate {road.mbit}")
        return self.port if road.is_direct else self.road_port

    def counts(self):
        sent, received = map(int, self._tell("passed").split())
        sessions = (int.from_bytes(file.read_bytes(), "little") for file in self.counts_in.iterdir())
        return Counts(sent, received, sum(sessions))

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
        subprocess.run(["umount", "-l", self.files], check=False)
