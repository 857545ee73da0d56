"""The rows of `methods` that learn from another method's flow, and the rows of `flows` that follow."""

from collections.abc import Mapping
from typing import Any

from stages.shared.params import Settings
from stages.shared.rows import Flow, Method, MethodKeys


class Lesson(Settings):
    """What a row of `methods` may learn from, each the name of another row whose flow is trained on the same data set: a
    `teacher`, whose velocity in round 0 is asked for, or whose pairs `reflow` gives, those of its round 1.
    """

    teacher: str | None = None
    reflow: str | None = None


class Keys(MethodKeys, Lesson):
    """The keys of a row of `methods` that are no options of its objective."""


class Learning(Method, Lesson):
    """A row of `methods` with all its keys."""

    model_config = Method.model_config


class Taught(Flow):
    """A trained model with the `teacher` that it asks, `train/NAME`, and what that one's model and network are called. Where
    there is none they are the data set, `generate/DATASET`, and its own.
    """

    teacher: str
    teacher_model: str
    teacher_network: str

    @property
    def asks(self) -> bool:
        """Whether there is a teacher."""
        return self.teacher.startswith("train/")


def teacher_row(content: Mapping[str, Any], row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row of `methods` of a row's teacher, if it has one."""
    return None if row.get("teacher") is None else content["methods"][row["teacher"]]
