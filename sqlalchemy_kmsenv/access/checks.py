"""One question and its answer: yes or no, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

from sqlalchemy_kmsenv.errors import KmsEnvError


class Answer(StrEnum):
    """There is no third one: what cannot be found out is a no."""

    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Check:
    """What was asked about ``subject``, and the answer."""

    subject: str
    question: str
    answer: Answer
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the answer is yes."""
        return self.answer is Answer.YES

    def to_dict(self) -> dict[str, str]:
        """As JSON takes it."""
        return {name: str(value) for name, value in asdict(self).items()}


def check(subject: str, question: str, *, passed: bool, detail: str = "") -> Check:
    """The answer to a question."""
    return Check(subject, question, Answer.YES if passed else Answer.NO, detail)


def ask(subject: str, question: str, call: Callable[[], object], *, done: str = "") -> Check:
    """Yes where ``call`` returns; no, with its words, where it raises an error of this library."""
    try:
        call()
    except KmsEnvError as error:
        return check(subject, question, passed=False, detail=f"{type(error).__name__}: {error}")
    return check(subject, question, passed=True, detail=done)
