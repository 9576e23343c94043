"""The files that the comparisons transfer. Contents are random, so that no server compresses them."""

import os

from rivals import MIB, write_random


def large_file(folder, mebibytes):
    """Makes `folder/file`, readable for servers that do not run as root."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    write_random(folder / "file", mebibytes)
    return folder / "file"


def many_files(folder, count, size, folders=100):
    """Makes files of `size` bytes in subfolders; returns the number of files and of folders."""
    pool = os.urandom(MIB + size)
    folders = min(folders, count)
    for part in range(folders):
        (folder / f"d{part:04}").mkdir(parents=True)
    for number in range(count):
        at = number * 7919 % MIB
        head = number.to_bytes(8, "big")
        with open(folder / f"d{number % folders:04}/f{number:07}", "wb", buffering=0) as file:
            file.write(head + pool[at : at + size - len(head)])
    return count, folders


def flat_names(folder, count):
    """Makes empty files in one folder."""
    folder.mkdir(parents=True)
    for number in range(count):
        os.close(os.open(folder / f"name-{number:07}", os.O_CREAT | os.O_WRONLY, 0o644))
