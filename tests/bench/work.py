"""What is done with each contender: the data, and the steps that are measured.

A step is a function of the contender and the data. It runs in a process of its own, does its work on the mount, and may
answer further figures; what it raises counts as failed.
"""

import os
import random
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

PAGE = 4096
NOISE = random.Random(1)


@dataclass(frozen=True)
class Sizes:
    big_mib: int = 256
    random_reads: int = 200
    directories: int = 100
    files_each: int = 20
    flat: int = 5000
    new: int = 500
    saves: int = 20
    small: int = 1000

    @classmethod
    def quick(cls):
        return cls(big_mib=64, random_reads=50, directories=20, flat=1000, new=100, saves=5, small=100)


class Data:
    """What is worked with, in files of this machine."""

    def __init__(self, directory, sizes):
        self.directory, self.sizes = directory, sizes
        self.big = directory / "big"

    def make(self, name):
        """Makes a set, named as in `Work`, unless it is there."""
        if not (self.directory / name).exists():
            getattr(self, f"_make_{name}")(self.directory / name)

    def _make_big(self, path):
        with path.open("wb") as file:
            for _ in range(self.sizes.big_mib):
                file.write(os.urandom(1 << 20))

    def _make_tree(self, path):
        for number in range(self.sizes.directories):
            # Ten at the top, each with nine below.
            top, below = divmod(number, 10)
            directory = path / f"folder {top}" / (f"project {below}" if below else "")
            self._fill(directory, self.sizes.files_each, lambda: NOISE.randint(1000, 8000))

    def _make_flat(self, path):
        self._fill(path, self.sizes.flat, lambda: 100)

    def _make_small(self, path):
        self._fill(path, self.sizes.small, lambda: PAGE)

    def _make_new(self, path):
        self._fill(path, self.sizes.new, lambda: PAGE)

    def _make_repository(self, path):
        for number in range(5):
            self._fill(path / "src" / f"module {number}", 12, lambda: NOISE.randint(1000, 8000))
        for command in (["init", "-q", "-b", "main"], ["add", "-A"],
                        ["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "all"]):
            subprocess.run(["git", "-C", path, *command], check=True)

    @staticmethod
    def _fill(directory, count, length):
        directory.mkdir(parents=True)
        for number in range(count):
            (directory / f"document {number:04}.dat").write_bytes(NOISE.randbytes(length()))


@dataclass(frozen=True)
class Work:
    steps: dict[str, Callable]
    there: tuple = ()  # sets of data that have to be on the server
    here: tuple = ()  # sets of data that have to be on this machine
    prepare: Callable | None = None  # over no road, on a mount of its own
    clean: Callable | None = None  # over no road, afterwards
    mounts: bool = False  # the step mounts
    apart: bool = False  # each step has a mount of its own
    believing: bool = True  # whether names and attributes may be believed for longer than a second


def shell(script, *arguments):
    """Runs a script, which must answer nothing but what it is asked for."""
    return subprocess.run(["sh", "-euc", script, "sh", *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout


def expect(what, is_so):
    if not is_so:
        raise RuntimeError(f"wrong: {what}")


def read_all(contender, data):
    if contender.name == "sftp":
        return contender.say("get big /dev/null")
    copied = 0
    with open(contender.at / "big", "rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            copied += len(piece)
    expect("the length", copied == data.sizes.big_mib << 20)
    return None


def write_all(contender, data):
    if contender.name == "sftp":
        return contender.say(f"put -f {data.big} written")
    shell('dd if="$1" of="$2" bs=1M conv=fsync status=none', data.big, contender.at / "written")
    return None


def remove_written(contender, _data):
    if contender.name == "sftp":
        contender.say("rm written")
    else:
        (contender.at / "written").unlink()


def random_reads(readers):
    def work(contender, data):
        wrong = []

        def read(seed, count):
            places = random.Random(seed)
            for _ in range(count):
                offset = places.randrange(data.sizes.big_mib << 20) // PAGE * PAGE
                if os.pread(here, PAGE, offset) != os.pread(there, PAGE, offset):
                    wrong.append(offset)

        here, there = os.open(contender.at / "big", os.O_RDONLY), os.open(data.big, os.O_RDONLY)
        each = data.sizes.random_reads if readers == 1 else max(1, data.sizes.random_reads // 4)
        threads = [threading.Thread(target=read, args=(time.time_ns() + reader, each)) for reader in range(readers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect("content", not wrong)
        return {"reads": each * readers}

    return work


def first_and_last(contender, data):
    path = contender.at / "big"
    length = os.stat(path).st_size
    began = time.perf_counter()
    file = os.open(path, os.O_RDONLY)
    first = os.pread(file, PAGE, 0)
    middle = time.perf_counter()
    last = os.pread(file, PAGE, length - PAGE)
    ended = time.perf_counter()
    with data.big.open("rb") as original:
        expect("the first bytes", first == original.read(PAGE))
        original.seek(-PAGE, os.SEEK_END)
        expect("the last bytes", last == original.read())
    return {"first": middle - began, "last": ended - middle}


def list_tree(contender, data):
    listed = shell('ls -lR "$1"', contender.at / "tree").count("document ")
    expect("the number of files", listed == data.sizes.directories * data.sizes.files_each)


def list_flat(contender, data):
    expect("the number of files", shell('ls -l "$1"', contender.at / "flat").count("document ") == data.sizes.flat)


def create(contender, data):
    shell('cp -r "$1" "$2"', data.directory / "new", contender.at / "copied")
    contender.saved()


def remove_created(contender, _data):
    shell('rm -rf "$1"', contender.at / "copied")
    contender.saved()


def save_as_editors_do(contender, data):
    document = contender.at / "letter"
    for number in range(data.sizes.saves):
        temporary = document.with_name(f".document.{number}~")
        with temporary.open("xb", buffering=0) as file:
            file.write(random.randbytes(2 * PAGE))
            os.fsync(file.fileno())
        temporary.rename(document)


def clone(contender, data):
    shell('git clone -q --no-hardlinks "$1" "$2"', data.directory / "repository", contender.at / "clone")
    contender.saved()


def write_letter(contender, _data):
    (contender.at / "letter").write_bytes(bytes(2 * PAGE))
    contender.saved()


def git_status(contender, _data):
    changed = shell('git -C "$1" status --porcelain', contender.at / "clone")
    expect(f"git sees changes: {changed[:200]}", not changed)


def remove_clone(contender, _data):
    shell('rm -rf "$1"', contender.at / "clone")
    contender.saved()


def copy_tree(contender, data):
    contender.bring(data.directory / "tree", "going")


def remove_tree(contender, _data):
    shell('rm -rf "$1"', contender.at / "going")
    contender.saved()


def read_small(contender, data):
    length = int(shell('cat "$1"/* | wc -c', contender.at / "small"))
    expect("the length", length == data.sizes.small * PAGE)


def look_during_a_copy(contender, data):
    """Copies, and looks at files one by one, each a second after it was last believed."""
    took, over = [], threading.Event()

    def look():
        while not over.wait(1.1):
            began = time.perf_counter()
            os.stat(contender.at / "letter")
            took.append(time.perf_counter() - began)

    os.stat(contender.at / "letter")
    looking = threading.Thread(target=look)
    looking.start()
    began = time.perf_counter()
    read_all(contender, data)
    copied = time.perf_counter() - began
    over.set()
    looking.join()
    took.sort()
    return {"copied": copied, "p95": took[min(len(took) - 1, len(took) * 95 // 100)], "looks": len(took)}


def idle(_contender, _data):
    time.sleep(1)


def all_kinds(contender, data):
    read_all(contender, data)
    write_all(contender, data)
    random_reads(16)(contender, data)
    list_tree(contender, data)


def first_look(contender, _data):
    expect("something is there", os.listdir(contender.at))


READ = Work({"read": read_all}, there=("big",))
WRITE = Work({"write": write_all}, here=("big",), clean=remove_written)
RANDOM = Work({"one reader": random_reads(1), "16 readers": random_reads(16)}, there=("big",), here=("big",))
FIRST = Work({"first and last": first_and_last}, there=("big",), here=("big",))
TREE = Work({"cold": list_tree, "warm": list_tree}, there=("tree",))
FLAT = Work({"cold": list_flat}, there=("flat",))
CREATE = Work({"create": create}, here=("new",), clean=remove_created)
SAVE = Work({"save": save_as_editors_do}, prepare=write_letter)
GIT = Work({"status": git_status}, here=("repository",), prepare=clone, clean=remove_clone)
REMOVE = Work({"remove": remove_tree}, here=("tree",), prepare=copy_tree)
SMALL = Work({"read": read_small}, there=("small",))
LOOK = Work({"copy": read_all, "copy and look": look_during_a_copy}, there=("big",), prepare=write_letter, apart=True,
            believing=False)
MOUNT = Work({"mount": first_look}, there=("small",), mounts=True)
MEMORY = Work({"idle": idle, "busy": all_kinds}, there=("big", "tree"), here=("big",), clean=remove_written)
