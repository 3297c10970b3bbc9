"""Signing packages with OpenSSF model-signing and a key of one's own: offline, no certificate, no transparency log."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from automm.errors import MissingExtraError, PackageError, StorageError, UsageError
from automm.runtime.files import PackageFiles
from automm.runtime.manifest import SIGNATURE
from automm.runtime.package import read_manifest

LARGEST = 16 * 2**20


def sign_package(package: Path, key: Path, password: bytes | None = None) -> Path:
    """Signs the manifest and every file of a package.

    Args:
        package: The package folder. An older signature in it is replaced.
        key: Private key (PEM; elliptic curve P-256, P-384 or P-521).
        password: The key's password, if it has one.

    Returns:
        The signature, `model.sig` in the package.

    Raises:
        PackageError: If a file is not what the manifest says, or the folder holds files that are not listed.
        UsageError: If the key cannot be used.
        StorageError: If the signature cannot be written.
        MissingExtraError: If model-signing is not installed.
    """
    signing, _, hashing = _library()
    complete(package)
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=_existing(key), password=password)
    except (ValueError, TypeError, AttributeError) as problem:
        raise UsageError(
            f"{key}: not a private key that can sign (PEM, curve P-256, P-384 or P-521): {problem}"
        ) from None
    package = package.resolve()
    temporary = package.with_name(f".{package.name}.{os.getpid()}.sig")
    try:
        config.set_hashing_config(hashing).sign(package, temporary)
        temporary.replace(package / SIGNATURE)
    except OSError as problem:
        raise StorageError(f"cannot write {package / SIGNATURE}: {problem.strerror}") from problem
    finally:
        temporary.unlink(missing_ok=True)
    return package / SIGNATURE


def verify_signature(package: Path, key: Path) -> None:
    """Checks that a key signed exactly the files that stand in a package.

    Args:
        package: The package folder.
        key: Public key (PEM).

    Raises:
        PackageError: If there is no signature, it is not by this key, or a file was changed, added or removed.
        UsageError: If the key cannot be used.
        MissingExtraError: If model-signing is not installed.
    """
    _, verifying, hashing = _library()
    complete(package)
    signature = package.resolve() / SIGNATURE
    if not signature.is_file() or signature.is_symlink():
        raise PackageError(f"{package}: is not signed: there is no file {SIGNATURE}")
    if signature.stat().st_size > LARGEST:
        raise PackageError(f"{SIGNATURE}: over the limit of {LARGEST:,} bytes")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=_existing(key))
    except (ValueError, TypeError, AttributeError) as problem:
        raise UsageError(
            f"{key}: not a public key that can verify (PEM, curve P-256, P-384 or P-521): {problem}"
        ) from None
    try:
        config.set_hashing_config(hashing).verify(package.resolve(), signature)
    except Exception as problem:  # cryptography, pydantic, JSON and the library itself: no common base
        reason = str(problem) or "it was not made with this key"
        raise PackageError(f"{SIGNATURE}: does not vouch for {package} by {key}: {reason[:500]}") from None


def complete(package: Path) -> PackageFiles:
    """The files of a package, all of which are what the manifest says, with nothing beside them.

    Raises:
        PackageError: Naming every file that is missing, changed, or not listed.
    """
    manifest, _ = read_manifest(package)
    files = PackageFiles(package.resolve(), manifest.files)
    problems = [f"{relative}: not part of the package" for relative in files.unlisted()]
    for relative in files.listing:
        try:
            files.check(relative)
        except PackageError as problem:
            problems.append(str(problem))
    if problems:
        raise PackageError("\n".join(problems))
    return files


def _existing(key: Path) -> Path:
    if not key.is_file():
        raise UsageError(f"{key}: no such key file")
    return key


def _library() -> tuple[Any, Any, Any]:
    """Signing, verifying, and what is hashed: everything but the signature itself, version control's files included."""
    try:
        names = ("signing", "verifying", "hashing")
        signing, verifying, hashing = (importlib.import_module(f"model_signing.{name}") for name in names)
    except ImportError as problem:
        text = f"signatures need {problem.name}, which is not installed: pip install 'automm[sign]'"
        raise MissingExtraError(text) from None
    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    return signing, verifying, config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
