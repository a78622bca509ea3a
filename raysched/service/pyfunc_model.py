"""The code of a registered model: MLflow copies this file beside the adapter and runs it to load the model.

    model = mlflow.pyfunc.load_model("models:/xquad-mini@best")
    model.predict(pandas.DataFrame([{"question": ..., "context": ..., "language": "de"}]))

| form of the task | columns | answer |
|---|---|---|
| qa | question, context | answer, score, start, end |
| choice | premise, question (cause or effect), choice1, choice2 | prediction, score |
| nli | premise, hypothesis | prediction, score |

`language` may be left out: the source language then. `score` is the logit of the answer; `start` and `end` count
characters of the context, and are -1 for an empty answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel


class AdapterModel(PythonModel):
    """A task adapter with its head, on the backbone and the language adapters that it was trained on."""

    def load_context(self, context: Any) -> None:
        """Load the adapter; raises RayschedError where its backbone is not here."""
        from raysched.service.answering import Answerer

        self.answerer = Answerer(Path(context.artifacts["adapter"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per row of the input, under its index. Raises StudyError for columns or languages it does not know.

        What is null in a column counts as left out.
        """
        rows = [
            {str(name): value for name, value in row.items() if not pd.isna(value)}
            for row in model_input.to_dict("records")
        ]
        found = self.answerer.answer(rows)
        if self.answerer.form != "qa":
            answers = [{"prediction": one.prediction, "score": one.score} for one in found]
            return pd.DataFrame(answers, index=model_input.index, columns=["prediction", "score"])
        answers = [
            {
                "answer": one.prediction,
                "score": one.score,
                "start": -1 if one.start is None else one.start,
                "end": -1 if one.end is None else one.end,
            }
            for one in found
        ]
        return pd.DataFrame(answers, index=model_input.index, columns=["answer", "score", "start", "end"])


mlflow.models.set_model(AdapterModel())
