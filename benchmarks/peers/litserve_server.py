"""A peer: LitServe with scikit-learn. ``MODEL=model.joblib python litserve_server.py PORT WORKERS``."""

import os
import sys

import joblib
import litserve
import numpy as np


class Bench(litserve.LitAPI):
    def setup(self, device: str) -> None:
        # The file was made by the benchmark itself a moment ago.
        self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request: dict[str, list[list[float]]]) -> np.ndarray:
        return np.array(request["rows"], np.float32)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(rows) if hasattr(self.model, "predict_proba") else self.model.predict(rows).reshape(-1, 1)

    def encode_response(self, found: np.ndarray) -> dict[str, list[list[float]]]:
        return {"predictions": found.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Bench(), accelerator="cpu", workers_per_device=int(sys.argv[2]))
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=int(sys.argv[2]), generate_client_file=False, log_level="warning", access_log=False)
