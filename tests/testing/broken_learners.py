"""A learner that passes all checks, and one for every check that it must catch."""

from __future__ import annotations

import random
from typing import Annotated

import numpy as np
from broken import breaks

from automm.api import Learner, Rows, Tune, torch


class SoundLearner(Learner):
    """Weighted ridge regression."""

    targets = frozenset({"number"})

    class Config(Learner.Config):
        """The penalty."""

        penalty: Annotated[float, Tune(0.1, 10.0, log=True)] = 1.0
        """Of the squared weights."""

    def fit(self, train, valid, settled, stop):
        x = self.known(torch.from_numpy(train.features)).numpy().astype(np.float64)
        x = np.concatenate([x, np.ones((len(x), 1))], 1)
        weighted = x * train.weight[:, None]
        self.solve(weighted.T @ x + self.config.penalty * np.eye(x.shape[1]), weighted.T @ train.target)
        return {"rows": settled.get("rows", len(x))}

    def solve(self, matrix, right):
        found = torch.from_numpy(np.linalg.solve(matrix, right)).float()
        self.remember(weight=found[:-1, None], bias=found[-1:])

    def known(self, features):
        return torch.where(features.isnan(), torch.zeros_like(features), features)

    def forward(self, features):
        return self.known(features) @ self.weight + self.bias


@breaks("learns_a_planted_signal", "without any feature")
class Constant(SoundLearner):
    """Predicts the same for all."""

    def forward(self, features):
        return 0.0 * super().forward(features) + self.bias


@breaks("fits_again_on_all_rows", "fitted again it settled")
class Forgetful(SoundLearner):
    """Settles something else without validation rows."""

    def fit(self, train, valid, settled, stop):
        return {**super().fit(train, valid, settled, stop), "again": valid is None}


@breaks("repeats_itself", "fit must repeat itself")
class Moody(SoundLearner):
    """Depends on how often it was fitted."""

    fits = 0

    def solve(self, matrix, right):
        Moody.fits += 1
        super().solve(matrix, right * (1 + 0.01 * Moody.fits))


@breaks("rows_are_independent", "a row alone must give the same")
class Ranked(SoundLearner):
    """Centres the batch."""

    def forward(self, features):
        return super().forward(features) - self.known(features).mean()


@breaks("any_input_may_be_missing", "outputs must be finite, whatever is missing")
class Dividing(SoundLearner):
    """Divides by the number of known values."""

    def forward(self, features):
        return super().forward(features) * features.shape[1] / (~features.isnan()).sum(1, keepdim=True)


@breaks("leaves_inputs_alone", "features must not be changed in place")
class Filling(SoundLearner):
    """Fills what is unknown, in the caller's rows."""

    def fit(self, train, valid, settled, stop):
        np.nan_to_num(train.features, copy=False)
        return super().fit(train, valid, settled, stop)


@breaks("minds_its_own_business", "learner: it changes the global random state of random and numpy.random")
class Shuffling(SoundLearner):
    """Draws from everybody's random numbers."""

    def solve(self, matrix, right):
        random.random()
        np.random.permutation(3)
        super().solve(matrix, right)


@breaks("reloads", "a state dictionary must keep the numbers")
class SecretLearner(SoundLearner):
    """Keeps a number outside its state."""

    secret = 0.0

    def fit(self, train, valid, settled, stop):
        self.secret = 1.0
        return super().fit(train, valid, settled, stop)

    def forward(self, features):
        return super().forward(features) + self.secret


@breaks("weights_count", "weights must count")
class Deaf(SoundLearner):
    """Ignores the rows' weights."""

    def fit(self, train, valid, settled, stop):
        plain = Rows(train.features, train.target, np.ones_like(train.weight))
        return super().fit(plain, valid, settled, stop)


@breaks("search_space_works", r"with Config\(penalty=0.0\)")
class DividesByPenalty(SoundLearner):
    """Fails at the end of its range."""

    class Config(Learner.Config):
        """A penalty that may be 0."""

        penalty: Annotated[float, Tune(0.0, 10.0)] = 1.0
        """Of the squared weights."""

    def solve(self, matrix, right):
        super().solve(matrix + np.eye(len(matrix)), right)

    def forward(self, features):
        return super().forward(features) / self.config.penalty


@breaks("exports_a_graph", "deviates from the model")
class Frozen(SoundLearner):
    """Does something else while it is exported."""

    def forward(self, features):
        if torch.compiler.is_exporting():
            return super().forward(features) + 1.0
        return super().forward(features)
