"""Opening a package's files: only listed ones, only plain ones, and only after their digest."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from automm.errors import PackageError
from automm.runtime.manifest import FilePart


def read_plain(root: Path, relative: str, most: int) -> bytes:
    """The bytes of a file below a folder, without following a link anywhere below it.

    Args:
        root: The folder.
        relative: Path inside it, with "/".
        most: Largest size in bytes; looked at before anything is read.

    Raises:
        PackageError: If it is absent, a symbolic or hard link, not a regular file, too large or unreadable.
    """
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
            return file.read(most + 1)
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
        part = self.listing.get(relative)
        if part is None:
            raise PackageError(f"{relative}: not listed in the manifest")
        data = read_plain(self.root, relative, part.bytes)
        if len(data) != part.bytes:
            raise PackageError(f"{relative}: {len(data):,} bytes, the manifest says {part.bytes:,}: damaged or cut off")
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise PackageError(f"{relative}: its SHA-256 is not the one in the manifest: the file was changed")
        return data

    def unlisted(self) -> list[str]:
        """Files in the folder that the manifest does not list; they are never opened."""
        from automm.runtime.manifest import FILE

        found = []
        for folder, _, names in os.walk(self.root):
            found += [(Path(folder) / name).relative_to(self.root).as_posix() for name in names]
        return sorted(name for name in found if name != FILE and name not in self.listing)
