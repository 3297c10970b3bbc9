"""What a component must be to be registered, how it is found, and who is blamed for it."""

from __future__ import annotations

import pytest

from automm.api import BadCell, BadCells, Config, DataError, Encoder, Fusion, Loss, PluginError, Processor
from automm.plugin.blame import blamed
from automm.plugin.loader import Plugins
from automm.plugin.registry import Owner, Registry, kind_of, validate

ACME, OTHER = Owner("acme", "acme-kit", "1.0"), Owner("other", "other-kit", "2.0")


class Plain(Fusion):
    def __init__(self, config, widths): ...

    def forward(self, inputs): ...


def fusion(**body):
    return type(Fusion)("Odd", (Plain,), body)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: dict, r"a component is a class that inherits from one of Modality, Encoder"),
        (lambda: "Concat", r"register\('Concat'\): a component is a class"),
        (lambda: Fusion, "fusion Fusion is abstract; register its subclasses"),
        (lambda: fusion(name="My Fusion"), "the name 'My Fusion' must be lower case letters, digits and underscores"),
        (lambda: fusion(Config=dict), "fusion Odd: Config must inherit from automm.api.Config"),
        (lambda: fusion(forward=lambda self: None), r"fusion Odd: forward\(self\) must accept forward\(self, inputs"),
        (lambda: fusion(unsuited=classmethod(lambda cls: None)), r"unsuited\(\) must accept unsuited\(context"),
        (
            lambda: type(Fusion)("Half", (Fusion,), {"__init__": Plain.__init__}),
            r"fusion Half: write the method `forward`",
        ),
        (lambda: type(Loss)("Mean", (Loss,), {"forward": lambda self, o, t: o}), "set the class attribute `targets`"),
        (lambda: type(Encoder)("E", (Encoder,), {}), "encoder E: set the class attribute `modality`"),
        (
            lambda: type(Processor)("P", (Processor,), {"op": "p", "specs": lambda self: {}}),
            r"processor P: write the method `load\(self, cell\)`",
        ),
    ],
)
def test_unfit_classes_are_refused_with_what_to_change(make, said):
    with pytest.raises(PluginError, match=said):
        validate(make())


def test_kind_of():
    assert kind_of(Plain) == "fusion"
    assert validate(Plain) == "fusion"


def test_names_are_found_with_and_without_their_owner():
    registry = Registry()
    registry.add(Plain, ACME)
    assert registry.get("fusion", "plain") is Plain
    assert registry.get("fusion", "acme:plain") is Plain
    assert registry.get("fusion", "acme-kit:plain") is Plain
    assert registry.owner(Plain) == ACME
    with pytest.raises(PluginError, match=r"unknown fusion 'plane'; did you mean 'plain'\? \(there are: plain\)"):
        registry.get("fusion", "plane")
    with pytest.raises(PluginError, match="registered twice by plugin acme"):
        registry.add(Plain, ACME)
    registry.add(type(Fusion)("Plain", (Plain,), {}), OTHER)
    assert registry.names("fusion") == ["acme:plain", "other:plain"]
    with pytest.raises(PluginError, match="offered by 2 plugins; write acme:plain or other:plain"):
        registry.get("fusion", "plain")
    registry.remove(OTHER)
    assert registry.get("fusion", "plain") is Plain
    assert registry.names("loss") == []


def test_absent_plugins_are_said_where_something_is_missing():
    registry = Registry(absent=["plugin kit (kit 1) is blocked: blocked by --block"])
    for look in (lambda: registry.get("fusion", "plain"), lambda: registry.need("fusion")):
        with pytest.raises(PluginError, match=r"(?s)fusion.*\nplugin kit \(kit 1\) is blocked"):
            look()
    registry.add(Plain, ACME)
    registry.need("fusion")


@pytest.mark.parametrize(
    ("raised", "seen", "said"),
    [
        (
            ValueError("x"),
            PluginError,
            r"^fusion 'plain' of plugin acme \(acme-kit 1.0\): forward raised ValueError: x$",
        ),
        (BadCell("y"), PluginError, "forward raised BadCell: y"),
        (BadCells({0: "z"}), BadCells, "1 bad cells"),
        (DataError("mine"), DataError, "^mine$"),
        (RuntimeError("CUDA out of memory"), RuntimeError, "out of memory"),
        (MemoryError("m"), MemoryError, "m"),
        (KeyboardInterrupt("k"), KeyboardInterrupt, "k"),
    ],
)
def test_blame(raised, seen, said):
    registry = Registry()
    registry.add(Plain, ACME)
    with pytest.raises(seen, match=said) as caught, blamed(registry, Plain, "forward"):
        raise raised
    if seen is PluginError:
        assert caught.value.__cause__ is raised


def test_blame_says_how_to_do_without_a_component_that_nobody_asked_for():
    registry = Registry()
    registry.add(Plain, ACME)
    with (
        pytest.raises(PluginError, match=r"; --block acme leaves the plugin out$"),
        blamed(registry, Plain, "unsuited"),
    ):
        raise ValueError("x")


class Hooks:
    """A plugin given as an object, as pluggy allows."""

    def __init__(self, result):
        from automm.api import hookimpl

        def automm_callbacks(folder):
            if isinstance(result, BaseException):
                raise result
            return result

        self.automm_callbacks = hookimpl(automm_callbacks)


def test_hooks_are_called_with_what_they_ask_for_and_one_failure_skips_one_plugin():
    plugins, warned = Plugins(), []
    for at, result in enumerate([["a"], ValueError("no"), None, "odd", ["b"]]):
        plugins.manager.register(Hooks(result), name=f"p{at}")

    def wrong(given):
        return None if isinstance(given, list) else "gave no list"

    found = plugins.call("automm_callbacks", warned.append, wrong, resolved={}, folder="f")
    assert sorted(found) == [["a"], ["b"]]
    assert sorted(warned) == [
        "plugin p1: hook automm_callbacks raised ValueError: no",
        "plugin p3: hook automm_callbacks gave no list",
    ]


def test_errors_meant_for_the_user_pass_through_hooks():
    plugins = Plugins()
    plugins.manager.register(Hooks(DataError("stop")), name="p")
    with pytest.raises(DataError, match="stop"):
        plugins.call("automm_callbacks", print, resolved={}, folder="f")


def test_subclass_of_another_plugins_component_is_its_own():
    class Base(Fusion):
        def __init__(self, config, widths):
            super().__init__(config, widths)

        def forward(self, inputs):
            raise AssertionError

    class Derived(Base):
        pass

    registry, one, two = Registry(), Owner("one", "a", "1"), Owner("two", "b", "1")
    registry.add(Base, one)
    registry.add(Derived, two)
    assert (registry.owner(Base), registry.owner(Derived)) == (one, two)
    assert registry.owner(type("Unknown", (), {})) is None


def test_unique_names_of_components_that_share_a_name():
    def fusion():
        class Same(Fusion):
            def __init__(self, config, widths):
                super().__init__(config, widths)

            def forward(self, inputs):
                raise AssertionError

        return Same

    registry = Registry()
    registry.add(fusion(), Owner("one", "a", "1"))
    (first,) = registry.all("fusion")
    assert registry.unique_name(first) == "same"
    registry.add(fusion(), Owner("one", "b", "1"))
    names = [registry.unique_name(entry) for entry in registry.all("fusion")]
    assert names == ["a:same", "b:same"]
    assert [registry.entry("fusion", name) for name in names] == registry.all("fusion")


def test_configuration_of_an_encoder_has_the_fields_of_all_encoders():
    class Bare(Encoder):
        modality = "text"

        class Config(Config):
            pass

        @classmethod
        def processor(cls, config, info):
            raise AssertionError

        def __init__(self, config, processor):
            super().__init__(config, processor)

        def forward(self, arrays):
            raise AssertionError

    with pytest.raises(PluginError, match=r"encoder Bare: Config must inherit from Encoder\.Config"):
        validate(Bare)


class Old(Fusion):
    """A fusion whose field got another name."""

    class Config(Fusion.Config):
        """Settings."""

        hidden: int = 8
        """Width."""

        @classmethod
        def migrate(cls, old):
            if "size" in old:
                old["hidden"] = old.pop("size")
            return old

    def __init__(self, config, widths): ...

    def forward(self, inputs): ...


def test_stored_configurations_are_migrated():
    assert Old.Config.stored({"size": 32}).hidden == 32
    assert Old.Config.stored({"hidden": 16}).hidden == 16
    stored = {"size": 4}
    Old.Config.stored(stored)
    assert stored == {"size": 4}  # the caller's own
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        Plain.Config.stored({"size": 32})


def test_components_are_pinned_by_version():
    registry = Registry()
    registry.add(Plain, ACME)
    registry.add(Old, OTHER)
    resolved = {"fusion": {"name": "acme:plain", "config": {}}, "encoders": {}}
    assert registry.pins(resolved) == {
        "fusion acme:plain": {"plugin": "acme", "distribution": "acme-kit", "version": "1.0"}
    }


def test_the_culprit_is_told_by_the_traceback(tmp_path):
    from automm.plugin.blame import culprit, told, who
    from automm.plugin.loader import load_plugins

    (tmp_path / "acme_parts.py").write_text(
        "from automm.api import Loss, hookimpl\n\n"
        "def helper(values):\n    return values[9]\n\n"
        "class Sharp(Loss):\n    targets = frozenset({'class'})\n"
        "    def forward(self, output, target):\n        return helper(output)\n\n"
        "@hookimpl\ndef automm_register(register):\n    register(Sharp)\n"
    )
    cls = load_plugins(files=[tmp_path / "acme_parts.py"]).registry.get("loss", "sharp")
    loss = cls(cls.Config(), None)
    with pytest.raises(IndexError) as raised:
        loss([1, 2], None)
    name = "loss 'sharp' of plugin acme_parts (local 0)"
    assert culprit(raised.value) == f"{name}: forward"
    assert told(raised.value) == f"{name}: forward raised IndexError: list index out of range"
    assert who(type(loss)) == name
    with pytest.raises(IndexError) as outside:
        [][0]
    assert culprit(outside.value) is None
    assert told(outside.value) == "IndexError: list index out of range"
    assert told(DataError("mine")) == "mine"


def test_renamed_names_warn_with_the_version(monkeypatch):
    from automm import api
    from automm.plugin.deprecation import RENAMED, Renamed

    monkeypatch.setitem(RENAMED, "Feature", Renamed("Features", "1.3"))
    said = r"automm.api.Feature is deprecated since automm 1.3 and is removed in automm 2.0: write automm.api.Features"
    with pytest.warns(api.RemovedInAutomm2Warning, match=said) as caught:
        assert api.Feature is api.Features
    assert caught[0].filename == __file__
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = api.Nothing
