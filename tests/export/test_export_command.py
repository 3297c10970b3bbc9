"""`automm export`: any exporter, whole folders, and one clear message for what cannot be."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

import automm
from automm.cli.main import cli
from automm.errors import AutommError, ExitCode
from export.conftest import EXPORTERS, shop_rows

MINE = '''
from typing import Literal

from automm.api import Exporter, copy_package, hookimpl, read_manifest


class Listing(Exporter):
    """Writes the names of the inputs."""

    class Config(Exporter.Config):
        """Settings."""

        order: Literal["up", "down"] = "up"
        """How they are sorted."""
        only: tuple[str, ...] = ()
        """Which of them."""

    def export_package(self, package, folder):
        names = [part.name for part in read_manifest(package)[0].inputs]
        names = [name for name in names if name in self.config.only or not self.config.only]
        (folder / "inputs.txt").write_text(" ".join(sorted(names, reverse=self.config.order == "down")))
        copy_package(package, folder / "copy")
        if "broken" in names:
            raise RuntimeError("no room")


@hookimpl
def automm_register(register):
    register(Listing)
'''


def run(*words):
    done = CliRunner().invoke(cli, ["export", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def refused(*words) -> tuple[str, int]:
    with pytest.raises(AutommError) as problem:
        run(*words)
    return str(problem.value), problem.value.exit_code


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_format_is_written_to_its_default_folder_with_instructions(name, shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run(name, shop)
    assert said == f"Small shop as {name}: export/{name}\nnext: export/{name}/README.md\n"
    assert (tmp_path / "export" / name / "README.md").stat().st_size > 500
    assert [path.name for path in (tmp_path / "export").iterdir()] == [name]  # nothing half-done beside it
    rows = shop_rows(3, seed=9)
    predict = EXPORTERS[name](EXPORTERS[name].Config()).load(tmp_path / "export" / name)
    found, expected = predict(rows), automm.load(shop).predict(rows).rows
    assert [row["prediction"] for row in found] == [row["prediction"] for row in expected]
    assert found[0]["probability_low"] == pytest.approx(expected[0]["probability_low"], abs=1e-5)


def test_command_needs_no_torch(shop, tmp_path):
    code = (
        "import sys\nfor name in ('torch', 'lightning', 'sklearn', 'pandas', 'mlflow'): sys.modules[name] = None\n"
        f"sys.argv = ['automm', 'export', sys.argv[1], {str(shop)!r}, '-o', sys.argv[2]]\n"
        "from automm.cli.main import main\nmain()\n"
    )
    for name in ("triton", "mlflow"):
        out = tmp_path / name
        done = subprocess.run([sys.executable, "-c", code, name, str(out)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (out / "README.md").exists()


def test_folder_that_holds_something_is_only_replaced_by_force(shop, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    run("docker", shop, "-o", out)  # an empty one is taken
    (out / "mine.txt").write_text("mine")
    said, code = refused("docker", shop, "-o", out)
    assert said == f"{out}: is not empty; name another folder, or replace it with --force"
    assert code == ExitCode.STORAGE
    assert (out / "mine.txt").exists()
    run("docker", shop, "-o", out, "--force")
    assert not (out / "mine.txt").exists()
    assert (out / "Dockerfile").exists()
    file = tmp_path / "file"
    file.touch()
    assert "exists and is not a folder" in refused("docker", shop, "-o", file, "--force")[0]


def test_package_is_never_replaced_by_its_export(shop, tmp_path):
    package = shutil.copytree(shop, tmp_path / "a" / "package")
    for out in (package, package / "inner", tmp_path / "a"):
        said, code = refused("docker", package, "-o", out, "--force")
        assert "lie in the other" in said
        assert code == ExitCode.STORAGE
    automm.load(package)


def test_unknown_names_say_what_there_is(shop, tmp_path):
    said, code = refused("dokcer", shop)
    assert "unknown exporter 'dokcer'; did you mean 'docker'?" in said
    assert code == ExitCode.PLUGIN
    said, code = refused("onnx", shop)
    assert said == (
        "onnx makes the graph that every package holds already (in graphs/); formats to export are: docker, "
        "huggingface, kserve, kubernetes, mlflow, triton"
    )
    assert code == ExitCode.USAGE
    said, code = refused("docker", tmp_path / "nothing")
    assert "no such folder; a package is a folder that holds automm.json" in said
    assert code == ExitCode.PACKAGE
    (tmp_path / "empty").mkdir()
    assert "automm.json: file is missing from the package" in refused("docker", tmp_path / "empty")[0]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("imgae=x", "--set imgae=x: no setting 'imgae' of kubernetes; settings of kubernetes are: image, base, namesp"),
        ("image", "--set image: not FIELD=VALUE; settings of kubernetes are"),
        ("replicas=many", "--set replicas=many: Input should be a valid integer"),
        ("replicas=0", "--set replicas=0: Input should be greater than or equal to 1"),
        ("replicas=20", "max_replicas must be at least replicas, which is 20"),
        ("image=a b", "--set image=a b: String should match pattern"),
        ("memory=lots", "--set memory=lots: String should match pattern"),
        ("queue=[1", "--set queue=[1: not JSON"),
    ],
)
def test_setting_that_does_not_fit_is_named(setting, said, shop, tmp_path):
    found, code = refused("kubernetes", shop, "-o", tmp_path / "out", "--set", setting)
    assert said in found
    assert code == ExitCode.USAGE
    assert not (tmp_path / "out").exists()


def test_setting_given_twice_is_refused(shop):
    assert "image is set twice" in refused("docker", shop, "--set", "image=a", "--set", "image=b")[0]


def test_exporter_of_a_plugin(shop, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(MINE)
    out = tmp_path / "out"
    words = ("listing", shop, "-o", out, "--plugin", plugin)
    assert "README" not in run(*words)
    assert (out / "inputs.txt").read_text() == "photo tabular title"
    run(*words, "--force", "--set", "order=down", "--set", 'only=["photo", "title"]')
    assert (out / "inputs.txt").read_text() == "title photo"
    automm.load(out / "copy")
    assert "'down'" in refused(*words, "--force", "--set", "order=sideways")[0]

    plugin.write_text(MINE.replace('"broken" in names', "True"))
    said, code = refused(*words, "--force")
    assert "exporter 'listing' of plugin mine" in said
    assert "export_package raised RuntimeError: no room" in said
    assert code == ExitCode.PLUGIN
    assert (out / "inputs.txt").read_text() == "title photo"  # that of the run before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py", "out"]


@pytest.mark.parametrize("name", EXPORTERS)
def test_damaged_package_leaves_nothing(name, shop, tmp_path):
    package = shutil.copytree(shop, tmp_path / "package")
    graph = package / "graphs" / "main.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    said, code = refused(name, package, "-o", tmp_path / "out")
    assert "graphs/main.onnx: its SHA-256 is not the one in the manifest" in said
    assert code == ExitCode.PACKAGE
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_files_that_the_package_does_not_list_stay_behind(shop, tmp_path):
    package = shutil.copytree(shop, tmp_path / "package")
    (package / "secret.txt").write_text("secret")
    (package / "golden" / "evil.py").write_text("raise SystemExit")
    for name in EXPORTERS:
        run(name, package, "-o", tmp_path / name)
        assert not [path for path in (tmp_path / name).rglob("*") if path.name in ("secret.txt", "evil.py")]
