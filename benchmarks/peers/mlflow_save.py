"""Saves a scikit-learn model in MLflow's form: ``python mlflow_save.py model.joblib folder``. Then ``mlflow models serve -m folder``."""

import sys

import joblib
import mlflow.sklearn

# The file was made by the benchmark itself a moment ago.
model = joblib.load(sys.argv[1])
mlflow.sklearn.save_model(
    model,
    sys.argv[2],
    pyfunc_predict_fn="predict_proba" if hasattr(model, "predict_proba") else "predict",
    serialization_format="cloudpickle",
    pip_requirements=["scikit-learn"],  # none are looked for: it is served from the environment that it is saved in
)
