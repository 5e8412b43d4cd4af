"""Imports and uses once what the sandbox's jobs need, so that no child has to."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import warnings
import zipfile
from typing import Any

import numpy as np

_CSV = b"a,b\n1,x\n2.5,\n3,y\n4,x\n"


def up() -> None:
    """Look at files, read a table of each kind, convert a small pipeline, run it."""
    warnings.simplefilter("ignore")
    _look()
    _tables()
    _conversion()


def _look() -> None:
    """Look at a zip and a pickle: their readers import codecs at the first use."""
    from registry import intake

    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as folder:
        folder.writestr("schema.json", json.dumps([]))
    for kind, data in (("skops", sink.getvalue()), *(("pickle", pickle.dumps("é", protocol)) for protocol in (0, 2, 4))):
        file = io.BytesIO(data)
        intake.recognise(file)
        intake.refusal(file, kind)


def _tables() -> None:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from registry.convert import sample

    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1.0, None], "b": ["x", None], "c": pd.Categorical(["u", "v"])}), sink)
    for data in (_CSV, b'[{"a":1,"b":true},{"a":2.5,"b":null}]', sink.getvalue()):
        sample.parse(data, max_rows=10)


def _conversion() -> None:
    import joblib.numpy_pickle  # noqa: F401  # a first use of these would import files
    import skops.io
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import IsolationForest, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from registry.convert import allowlist, jobs, original, sample, signature_of
    from registry.convert.verdict import Refused

    for module, name in allowlist.allowed_names():  # whatever a file may name: a child may not be let into the folder where the packages lie
        with contextlib.suppress(Refused, ImportError):  # it is of another version
            allowlist.find(module, name)
    columns = sample.parse(_CSV, max_rows=10)
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    encode = make_column_transformer((make_pipeline(SimpleImputer(), StandardScaler()), ["a"]), (texts, ["b"]))
    import pandas as pd

    frame = pd.DataFrame({"a": [1.0, 2.5, 3.0, 4.0], "b": pd.Series(["x", np.nan, "y", "x"], dtype=object)})
    model: Any = make_pipeline(encode, RandomForestClassifier(2, random_state=0)).fit(frame, ["n", "y", "n", "y"])
    inputs = signature_of.inputs_of(model, columns)
    answers = original.answers(model, original.rows_for(model, inputs.columns, 4), "classification")
    jobs.best_form(model, inputs, "classification", answers)
    skops.io.loads(skops.io.dumps(StandardScaler().fit([[1.0], [2.0]])))
    IsolationForest(n_estimators=2).fit([[1.0], [2.0], [3.0]]).predict([[1.0]])
