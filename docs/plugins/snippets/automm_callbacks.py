from pathlib import Path

from automm.api import hookimpl


@hookimpl
def automm_callbacks(resolved, folder):
    from lightning.pytorch.callbacks import Callback  # imported here, so that loading stays quick

    class Note(Callback):
        """Writes which seed a trial began with."""

        def on_fit_start(self, trainer, module):
            (folder / "seed.txt").write_text(str(resolved["seed"]))

    return [Note()]


assert len(automm_callbacks({"seed": 7}, Path("run/trials/0"))) == 1
