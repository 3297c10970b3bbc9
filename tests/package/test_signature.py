"""Signatures: made and checked offline with keys made here; what they do not cover is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from automm.cli import package
from automm.errors import MissingExtraError, PackageError, UsageError
from automm.package.signature import sign_package, verify_signature
from automm.runtime.predictor import load

pytest.importorskip("model_signing")
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec

V1 = Path(__file__).parent / "fixtures" / "v1"


def make_key(folder, name, password=None):
    """A key pair: <name>.pem and <name>.pub."""
    key = ec.generate_private_key(ec.SECP256R1())
    locked = pem.BestAvailableEncryption(password) if password else pem.NoEncryption()
    private = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, locked)
    (folder / f"{name}.pem").write_bytes(private)
    public = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_key(folder, "ours")
    make_key(folder, "theirs")
    make_key(folder, "locked", b"secret")
    return folder


@pytest.fixture
def signed(keys, tmp_path):
    """A signed copy of the committed package."""
    path = Path(shutil.copytree(V1, tmp_path / "package"))
    sign_package(path, keys / "ours.pem")
    return path


def refused(path, key, *words):
    with pytest.raises(PackageError) as caught:
        verify_signature(path, key)
    for word in words:
        assert word in str(caught.value)


def test_signed_package_loads_and_is_verified(signed, keys):
    verify_signature(signed, keys / "ours.pub")
    assert len(load(signed).predict([], allow_missing=True)) == 0
    moved = signed.rename(signed.with_name("other name"))
    verify_signature(moved, keys / "ours.pub")


def test_another_key_does_not_vouch(signed, keys):
    refused(signed, keys / "theirs.pub", "model.sig", "theirs.pub")


def test_unsigned_package_is_refused(keys):
    refused(V1, keys / "ours.pub", "is not signed")


def test_changed_file_with_a_forged_digest_is_found(signed, keys):
    """Whoever rewrites a file can rewrite its digest in the manifest, but not the signature."""
    import hashlib

    data = (signed / "assets/tabular.json").read_bytes() + b" "
    (signed / "assets/tabular.json").write_bytes(data)
    manifest = json.loads((signed / "automm.json").read_text())
    manifest["files"]["assets/tabular.json"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (signed / "automm.json").write_text(json.dumps(manifest))
    load(signed)
    refused(signed, keys / "ours.pub", "assets/tabular.json", "automm.json")


@pytest.mark.parametrize("path", [".git/hooks/x", ".gitattributes", ".gitignore", "golden/extra.json"])
def test_added_files_are_found_git_files_included(signed, keys, path):
    (signed / path).parent.mkdir(parents=True, exist_ok=True)
    (signed / path).write_text("x")
    refused(signed, keys / "ours.pub", f"{path}: not part of the package")


def test_git_files_are_never_signed_along(keys, tmp_path):
    path = Path(shutil.copytree(V1, tmp_path / "package"))
    (path / ".gitignore").write_text("x")
    with pytest.raises(PackageError, match=r"\.gitignore: not part of the package"):
        sign_package(path, keys / "ours.pem")
    assert not (path / "model.sig").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"mediaType": "x"}', "\0\0"])
def test_damaged_signature_is_refused(signed, keys, text):
    (signed / "model.sig").write_text(text)
    refused(signed, keys / "ours.pub", "model.sig")


def test_linked_signature_is_refused(signed, keys, tmp_path):
    (signed / "model.sig").rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", signed / "model.sig")
    refused(signed, keys / "ours.pub", "is not signed")


def test_keys_that_cannot_be_used(signed, keys, tmp_path):
    (tmp_path / "no.pem").write_text("x")
    for key in (tmp_path / "no.pem", tmp_path / "absent.pem", keys / "ours.pub", keys / "locked.pem"):
        with pytest.raises(UsageError, match=key.name):
            sign_package(signed, key)
    with pytest.raises(UsageError, match=r"ours\.pem: not a public key"):
        verify_signature(signed, keys / "ours.pem")


def test_commands(keys, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(package.command, [str(a) for a in arguments], catch_exceptions=False)

    path = Path(shutil.copytree(V1, tmp_path / "package"))
    (tmp_path / "password").write_text("secret\n")
    assert "signed   no" in run("inspect", path).stdout
    run("sign", path, "--key", keys / "locked.pem", "--password-file", tmp_path / "password")
    assert "signed   yes (model.sig" in run("inspect", path).stdout
    assert "signed by" in run("verify", path, "--public-key", keys / "locked.pub").stdout
    assert "the signature was not looked at" in run("verify", path).stderr


def test_without_the_library_the_message_says_what_to_install(keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing.signing", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'automm\[sign\]'"):
        sign_package(V1, keys / "ours.pem")


def test_the_library_s_own_command_agrees(signed, keys):
    """The signature is the library's standard bundle: others can check it without automm."""
    from model_signing import hashing, verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=keys / "ours.pub")
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=["model.sig"])).verify(
        signed, signed / "model.sig"
    )
