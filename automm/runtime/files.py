"""Opening a package's files: only listed ones, only plain ones, and only after their digest."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from automm.errors import PackageError
from automm.runtime.manifest import FILE, SIGNATURE, FilePart

LARGEST = 2**31
"""Most bytes of a file that is read whole; also the most that an ONNX file can have."""
BLOCK = 2**20


def read_plain(root: Path, relative: str, most: int) -> bytes:
    """The bytes of a file below a folder, without following a link anywhere below it.

    Args:
        root: The folder.
        relative: Path inside it, with "/".
        most: Largest size in bytes; looked at before anything is read.

    Raises:
        PackageError: If it is absent, a symbolic or hard link, not a regular file, too large or unreadable.
    """
    with _open_plain(root, relative, most) as file:
        return file.read(most + 1)


@contextmanager
def _open_plain(root: Path, relative: str, most: int) -> Iterator[IO[bytes]]:
    path = root
    try:
        for part in relative.split("/")[:-1]:
            path = path / part
            if path.is_symlink():
                raise PackageError(f"{relative}: {part!r} is a symbolic link; packages hold plain files only")
        path = root / relative
        if path.is_symlink():
            raise PackageError(f"{relative}: is a symbolic link; packages hold plain files only")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise PackageError(f"{relative}: not a regular file")
            if found.st_nlink > 1:
                raise PackageError(f"{relative}: has {found.st_nlink} hard links; copy the package's files instead")
            if found.st_size > most:
                raise PackageError(f"{relative}: {found.st_size:,} bytes, expected at most {most:,}")
            yield file
    except FileNotFoundError:
        raise PackageError(f"{relative}: file is missing from the package {root}") from None
    except OSError as problem:
        raise PackageError(f"{relative}: cannot be read: {problem.strerror}") from None


class PackageFiles:
    """The listed files of a package.

    Args:
        root: The package's folder.
        listing: Path → digest and size, from the manifest.
    """

    def __init__(self, root: Path, listing: Mapping[str, FilePart]) -> None:
        self.root = root
        self.listing = dict(listing)

    def read(self, relative: str) -> bytes:
        """The bytes of a listed file, with size and digest checked.

        Raises:
            PackageError: If it is not listed, not plain, or not what the manifest says.
        """
        part = self._part(relative)
        if part.bytes > LARGEST:
            raise PackageError(f"{relative}: {part.bytes:,} bytes is over the limit of {LARGEST:,}")
        data = read_plain(self.root, relative, part.bytes)
        self._compare(relative, part, len(data), hashlib.sha256(data).hexdigest())
        return data

    def check(self, relative: str) -> None:
        """Compares a listed file with the manifest, block by block.

        Raises:
            PackageError: As `read` does.
        """
        part, digest, size = self._part(relative), hashlib.sha256(), 0
        with _open_plain(self.root, relative, part.bytes) as file:
            while block := file.read(BLOCK):
                digest.update(block)
                size += len(block)
        self._compare(relative, part, size, digest.hexdigest())

    def _part(self, relative: str) -> FilePart:
        if relative not in self.listing:
            raise PackageError(f"{relative}: not listed in the manifest")
        return self.listing[relative]

    @staticmethod
    def _compare(relative: str, part: FilePart, size: int, digest: str) -> None:
        if size != part.bytes:
            raise PackageError(f"{relative}: {size:,} bytes, the manifest says {part.bytes:,}: damaged or cut off")
        if digest != part.sha256:
            raise PackageError(f"{relative}: its SHA-256 is not the one in the manifest: the file was changed")

    def unlisted(self, *, hidden: bool = True) -> list[str]:
        """What stands in the folder and is neither the manifest, nor the signature, nor listed; it is never opened.

        Args:
            hidden: Whether to name also what begins with a dot at the top: version control, hubs and file managers
                leave such entries behind.
        """
        found = []
        parents = {parent.as_posix() for name in self.listing for parent in Path(name).parents}
        for folder, folders, names in os.walk(self.root):
            linked = [name for name in folders if (Path(folder) / name).is_symlink()]
            found += [(Path(folder) / name).relative_to(self.root).as_posix() for name in (*names, *linked)]
        known = {*self.listing, *parents, FILE, SIGNATURE}
        strange = sorted(name for name in found if name not in known)
        return [name for name in strange if hidden or not name.startswith(".")]
