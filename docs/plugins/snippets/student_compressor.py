from automm.api import NotCompressible, StudentCompressor


class DefaultStudent(StudentCompressor):
    """The plan's default network learns from an ensemble."""

    def student(self, members, default):
        if len(members) == 1 and "learner" not in members[0][1]:
            raise NotCompressible("one network answers already")
        return default


default = {"fusion": {"name": "concat", "config": {}}, "seed": 0}
members = [(0.6, {**default, "seed": 1}), (0.4, {**default, "seed": 2})]  # weight and configuration of each
assert DefaultStudent(DefaultStudent.Config()).student(members, default) == default
