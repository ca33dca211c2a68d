"""Who is compared: Scaup, what people use instead, and the `sftp` program."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

PASSWORD = "correct horse battery staple"
# In the environment of a contender's processes, so that they are found, and no other run's.
MARK = "SCAUP_BENCH_CONTENDER"


class Contender:
    """A program that shows a directory of the server as a folder at `at`."""

    def __init__(self, place, server, name, root=None):
        self.name, self.server = name, server
        directory = name.replace(" ", "-")
        self.home, self.at = place / "homes" / directory, place / "mounts" / directory
        self.root = server.files / (root or directory)
        for directory in (self.home, self.at, self.root):
            directory.mkdir(parents=True, exist_ok=True)
        self.environment = {**os.environ, MARK: str(self.home), "HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home)}
        for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            self.environment.pop(variable, None)
        self.address = f"{server.user}@{server.host}:{self.root}"

    def prepare(self):
        """Makes what has to be there before the first mount."""

    def start(self, port, believing):
        """Mounts; if it is not `believing`, names and attributes are asked for anew after a second."""
        raise NotImplementedError

    def bring(self, source, name):
        """Copies what is to be worked with to `name`; it is mounted."""
        self.do("cp", "-r", source, self.at / name)
        self.saved()

    def saved(self):
        """Waits until what was written is on the server, as far as the program can tell."""
        self.do("sync", "-f", self.at)

    def version(self):
        raise NotImplementedError

    def do(self, *command):
        ended = subprocess.run([str(word) for word in command], env=self.environment, stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if ended.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {ended.returncode}: {ended.stderr.strip()}")
        return ended.stdout

    def mount(self, port, believing=True):
        self.start(port, believing)
        deadline = time.monotonic() + 60
        while not is_mounted(self.at):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not mount")
            time.sleep(0.005)

    def mounts(self):
        """The mount points to take down, the outer ones first."""
        return [self.at]

    def unmount(self):
        for at in self.mounts():
            deadline = time.monotonic() + 60
            while is_mounted(at):
                # Somebody may still be in it; in the end that does not count.
                how = "-u" if time.monotonic() < deadline else "-uz"
                subprocess.run(["fusermount3", how, at], stderr=subprocess.DEVNULL, check=False)
                time.sleep(0.05)
        deadline = time.monotonic() + 30
        while pids := self.pids():
            if time.monotonic() > deadline:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def pids(self):
        mark, found = f"{MARK}={self.home}\0".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                # One that has ended and waits for its parent has no environment.
                if mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
            except OSError:
                pass
        return found

    def cpu(self):
        """Seconds that its processes have worked."""
        ticks = 0
        for pid in self.pids():
            user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13]
            ticks += int(user) + int(system)
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self, field):
        """MiB of memory by a field of /proc/PID/status, all its processes together."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.pids()]
        return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith(field)) / 1024


class Scaup(Contender):
    def __init__(self, place, server, program, without=None):
        super().__init__(place, server, f"scaup without {without}" if without else "scaup", "scaup")
        self.program = program
        self.options = ["-o", f"without={without}"] if without else []
        self.password = ["--vault-password-command", f"echo {PASSWORD}"]

    def prepare(self):
        if not any(self.root.iterdir()):
            self.do(self.program, "vault", "create", self.root, *self.password)

    def start(self, port, believing):
        timeout = [] if believing else ["--attr-timeout", "1"]
        self.do(self.program, "mount", self.address, self.at, "-p", port, "-i", self.server.key,
                "-o", f"UserKnownHostsFile={self.server.known_hosts}", "--vault", ".", *self.password, *self.options, *timeout)

    def saved(self):
        while any(json.loads(self.do(self.program, "status", "--json"))["mounts"][0]["unsaved"].values()):
            time.sleep(0.01)

    def version(self):
        return self.do(self.program, "--version").strip()


class Sshfs(Contender):
    def __init__(self, place, server, name="sshfs"):
        super().__init__(place, server, name)

    def start(self, port, believing, at=None):
        timeout = [] if believing else ["-o", "dcache_timeout=1,attr_timeout=1,entry_timeout=1"]
        self.do("sshfs", "-F", self.server.ssh_config, "-p", port, self.address, at or self.at, *timeout)

    def version(self):
        return self.do("sshfs", "--version").splitlines()[0]


class Gocryptfs(Sshfs):
    """`gocryptfs` on `sshfs`."""

    def __init__(self, place, server):
        super().__init__(place, server, "gocryptfs on sshfs")
        self.lower, self.password = self.home / "lower", self.home / "password"
        self.lower.mkdir()
        self.password.write_text(PASSWORD)

    def prepare(self):
        self.do("gocryptfs", "-init", "-q", "-passfile", self.password, self.root)

    def start(self, port, believing, at=None):
        super().start(port, believing, self.lower)
        self.do("gocryptfs", "-q", "-passfile", self.password, self.lower, self.at)

    def mounts(self):
        return [self.at, self.lower]

    def version(self):
        return self.do("gocryptfs", "--version").split(";")[0].strip()


class Rclone(Contender):
    """`rclone mount` of a `crypt` remote on an `sftp` remote, its cache no larger than writing needs."""

    def __init__(self, place, server):
        super().__init__(place, server, "rclone crypt")
        self.configuration = self.home / "rclone.conf"

    def prepare(self):
        password = self.do("rclone", "obscure", PASSWORD).strip()
        self.configuration.write_text(
            f"[server]\ntype=sftp\nhost={self.server.host}\nuser={self.server.user}\nkey_file={self.server.key}\n"
            f"[vault]\ntype=crypt\nremote=server:{self.root}\npassword={password}\n")

    def start(self, port, believing):
        self.do("rclone", "mount", "vault:", self.at, "--config", self.configuration, "--sftp-port", port,
                "--vfs-cache-mode", "minimal", "--cache-dir", self.home / "cache", "--daemon")

    def saved(self):
        # It notes beside each cached file whether that has been sent.
        super().saved()
        while any(b'"Dirty":true' in self.noted(file).replace(b" ", b"")
                  for file in (self.home / "cache" / "vfsMeta").rglob("*") if file.is_file()):
            time.sleep(0.02)

    @staticmethod
    def noted(file):
        try:
            return file.read_bytes()
        except FileNotFoundError:  # it let go of the file meanwhile
            return b""

    def bring(self, source, name):
        # Through the mount, each file is checked by a process of its own on the server.
        self.do("rclone", "copyto", source, f"vault:{name}", "--config", self.configuration, "--sftp-port", self.server.port,
                "--sftp-disable-hashcheck", "--transfers", "16", "--checkers", "16")

    def unmount(self):
        super().unmount()
        shutil.rmtree(self.home / "cache", ignore_errors=True)

    def version(self):
        return self.do("rclone", "version").splitlines()[0]


class RawSftp(Contender):
    """The `sftp` program, which mounts nothing, copying a file that is not encrypted."""

    def __init__(self, place, server):
        super().__init__(place, server, "sftp")
        self.session = None

    def mount(self, port, believing=True):
        self.session = subprocess.Popen(
            ["sftp", "-F", self.server.ssh_config, "-P", str(port), "-b", "-", self.address],
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.say()

    def say(self, command=None):
        """Obeys and returns when that is done."""
        self.session.stdin.write(f"{command}\npwd\n".encode() if command else b"pwd\n")
        self.session.stdin.flush()
        # Its own words come before.
        while b"Remote working directory" not in (line := self.session.stdout.readline()):
            if not line:
                raise RuntimeError(f"sftp failed at {command}")

    def bring(self, source, name):
        shutil.copy(source, self.root / name)

    def saved(self):
        """`put -f` has waited."""

    def unmount(self):
        if self.session:
            self.session.stdin.close()
            self.session.wait()
            self.session = None

    def version(self):
        return subprocess.run(["ssh", "-V"], stderr=subprocess.PIPE, text=True, check=True).stderr.strip()


RIVALS = (Sshfs, Gocryptfs, Rclone, RawSftp)


def is_mounted(at):
    """By the kernel's table: asking the path itself could hang."""
    return any(line.split(" ")[4] == str(at) for line in Path("/proc/self/mountinfo").read_text().splitlines())
