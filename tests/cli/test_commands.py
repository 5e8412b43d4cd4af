"""The command line against the running product: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import LocalOutlierFactor

from config.cli.api import Address, Api
from config.cli.main import signalbox
from tests.product import Product, run_command


def _until_all_processes_know(product: Product, key_id: str, rows: int) -> None:
    """Each process writes and reads every two seconds what a key has used."""
    _eventually(lambda: _json(product, "keys", "usage", key_id)["today"]["rows"], lambda found: found == rows)
    time.sleep(3)


def _eventually(look: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """Look until it is enough, half a minute at most; gives what was seen last."""
    until = time.monotonic() + 30
    while not enough(found := look()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def iris(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two registered versions of ``cli-iris``; gives the folder with the files."""
    import joblib

    folder = tmp_path_factory.mktemp("iris")
    rows, truth = load_iris(return_X_y=True, as_frame=True)
    rows.to_csv(folder / "rows.csv", index=False)
    rows.head(2).to_json(folder / "two.json", orient="records")
    for number, strength in enumerate((0.01, 1.0), start=1):
        joblib.dump(LogisticRegression(C=strength, max_iter=500).fit(rows, truth), folder / f"{number}.joblib")
        done = product.command(
            "register", str(folder / f"{number}.joblib"), "--name", "cli-iris", "--sample", str(folder / "rows.csv"), "--metric", f"c={strength}"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"cli-iris version {number} is ready.\n"
        assert "✓" in done.stderr
    return folder


def _json(product: Product, *arguments: str):
    done = product.command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_walks_a_version_into_traffic_and_back(product: Product, iris: Path) -> None:
    name = "cli-flowers"
    assert _json(product, "create-endpoint", name)["name"] == name
    assert product.command("deploy", name, "cli-iris", "1").stdout.startswith(f"{name}: blue 100 % cli-iris 1")
    product.command("deploy", name, "cli-iris", "2")
    assert product.command("split", name, "blue=90", "green=10").stdout.startswith(f"{name}: blue 90 % cli-iris 1, green 10 % cli-iris 2")
    assert product.command("promote", name, "--reason", "it is better").stdout.startswith(f"{name}: blue 0 % cli-iris 1, green 100 % cli-iris 2")
    assert product.command("rollback", name).stdout.startswith(f"{name}: blue 100 % cli-iris 1, green 0 % cli-iris 2")
    rows = _json(product, "ledger", name)
    assert [row["verb"] for row in rows][:3] == ["roll_back", "promote", "split"]
    assert rows[1]["reason"] == "it is better"
    again = product.command("rollback", name, "--to-revision", str(rows[2]["revision"]))
    assert again.stdout.startswith(f"{name}: blue 90 % cli-iris 1, green 10 % cli-iris 2")
    assert f"{name}  " in product.command("endpoints").stdout

    refused = product.command("split", name, "blue=90", "green=20")
    assert refused.returncode == 3
    assert "Nothing was changed" in refused.stderr
    assert _json(product, "endpoints")[0]["slots"][0]["weight"] == 90

    answer = _json(product, "predict", name, str(iris / "two.json"))
    assert [row["label"] for row in answer["predictions"]] == [0, 0]
    assert f"Nothing outside the signature came to {name} in the last 24 h.\n" in product.command("validation", name).stderr
    assert _json(product, "validation", name, "--hours", "3", "--version", "1")["hours"] == 3
    sent = product.command("outcomes", "--prediction", answer["prediction_id"], "--value", "0")
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.startswith("1 accepted")
    _sees_performance_and_drift(product, name, answer["version"])
    unknown = product.command("outcomes", "--prediction", answer["prediction_id"], "--value", "rose")
    assert (unknown.returncode, unknown.stdout) == (3, "0 accepted, 0 wait for their prediction, 1 refused\n")
    assert unknown.stderr.startswith("  outcome 0: ")

    file = iris / "log.parquet"
    written = _json(product, "export-predictions", name, "--format", "parquet", "-o", str(file))
    assert (written["next_since"], written["size_bytes"]) == (None, file.stat().st_size)
    assert set(pq.read_table(file)["prediction_id"].to_pylist()) == {answer["prediction_id"]}
    assert product.command("export-predictions", name, "-o", str(file)).returncode == 2


def _sees_performance_and_drift(product: Product, name: str, version: int) -> None:
    Api(Address(product.console_url, product.predict_url, product.admin_key)).post(f"endpoints/{name}/evaluate/")
    (measured,) = json.loads(_in_process(product, "performance", name, "--json").stdout)["summary"]
    assert (measured["version"], measured["metric"], measured["value"], measured["n"]) == (version, "accuracy", 1.0, 1)
    heading, line = _in_process(product, "performance", name, "--hours", "1").stdout.splitlines()
    assert heading.split() == ["MODEL", "VERSION", "METRIC", "VALUE", "EXPECTED", "DELAY", "S", "OUTCOMES"]
    assert line.split()[:5] == ["cli-iris", str(version), "accuracy", "1", "-"]
    seen = _in_process(product, "drift", name, "--version", str(version))
    assert seen.stderr.startswith(f"cli-iris version {version}: Not enough data: 2 of 500 rows.")
    assert seen.stdout.startswith("FEATURE")
    assert _in_process(product, "drift", name, "--version", "9").stderr.startswith(f"No drift of {name} version 9 is known yet")


def _in_process(product: Product, *arguments: str) -> Result:
    """Run a command that needs nothing of the machine where Signalbox runs; quicker than a process of its own."""
    where = ("--url", product.console_url, "--predict-url", product.predict_url, "--key", product.admin_key)
    return CliRunner().invoke(signalbox, [*arguments, *where])


def test_masks_inputs_which_an_export_then_leaves_empty(product: Product, iris: Path, tmp_path: Path) -> None:
    name, columns = "cli-masked", ["petal width (cm)", "sepal length (cm)"]
    _json(product, "create-endpoint", name)
    assert _json(product, "configure", name, f"masked_inputs={','.join(columns)}")["masked_inputs"] == columns
    product.command("deploy", name, "cli-iris", "1")
    _json(product, "predict", name, str(iris / "two.json"))
    key = product.command("keys", "create", "cli operator", "--scope", "operate").stdout.strip()
    refused = product.command("configure", name, "masked_inputs=", SIGNALBOX_KEY=key)
    assert (refused.returncode, "predictions.unmask" in refused.stderr) == (1, True)
    unknown = product.command("configure", name, 'masked_inputs=["petal"]')
    assert (unknown.returncode, "No registered version has a feature 'petal'" in unknown.stderr) == (1, True)

    def exported(number: int, **environ: str) -> tuple[str, list[float | None], list[float]]:
        file = tmp_path / f"{number}.parquet"
        done = product.command("export-predictions", name, "--format", "parquet", "-o", str(file), **environ)
        table = pq.read_table(file)
        inputs = [table[f"in.{column}"].to_pylist() if table.num_rows else [] for column in (columns[0], "petal length (cm)")]
        return done.stderr, *inputs

    numbers = iter(range(1000))
    assert _eventually(lambda: exported(next(numbers)), lambda found: bool(found[1])) == ("", [0.2, 0.2], [1.4, 1.4])
    told = "Masked and empty: 2 columns of inputs. Seeing the values needs the right predictions.unmask.\n"
    assert exported(next(numbers), SIGNALBOX_KEY=key) == (told, [None, None], [1.4, 1.4])
    assert _json(product, "configure", name, "masked_inputs=")["masked_inputs"] == []
    assert exported(next(numbers), SIGNALBOX_KEY=key)[1] == [0.2, 0.2]


def test_lists_models_and_versions(product: Product, iris: Path) -> None:
    assert [row["number"] for row in _json(product, "versions", "cli-iris")] == [2, 1]
    assert "cli-iris" in product.command("models").stdout


def test_an_alias_is_put_on_a_version_moved_and_taken_off(product: Product, iris: Path) -> None:
    assert product.command("alias", "cli-iris", "champion", "1").stdout == "cli-iris: champion is on version 1.\n"
    assert _json(product, "alias", "cli-iris", "champion", "2", "--seen", "1")["version"] == 2
    stale = product.command("alias", "cli-iris", "champion", "1", "--seen", "1")
    assert (stale.returncode, "it is on version 2 now. Nothing was changed" in stale.stderr) == (3, True)
    assert [row["aliases"] for row in _json(product, "versions", "cli-iris")] == [["champion"], []]
    assert product.command("alias", "cli-iris", "champion", "--remove").stdout == "cli-iris: champion is on no version.\n"
    assert product.command("alias", "cli-iris", "champion", "--remove").returncode == 1
    assert product.command("alias", "cli-iris", "champion").returncode == 2
    assert [row["aliases"] for row in _json(product, "versions", "cli-iris")] == [[], []]


def test_tags_of_a_model_and_of_a_version_are_set_and_taken_off(product: Product, iris: Path) -> None:
    assert product.command("tag", "cli-iris", "team=growth", "site=ulm").stdout == "cli-iris: site=ulm  team=growth\n"
    assert _json(product, "tag", "cli-iris", "team=risk", "--remove", "site")["tags"] == {"team": "risk"}
    assert product.command("tag", "cli-iris", "run=7", "--version", "2").stdout == "cli-iris version 2: run=7\n"
    lacking = product.command("tag", "cli-iris", "--version", "1", "--remove", "run")
    assert (lacking.returncode, lacking.stderr) == (1, "Error: cli-iris version 1 has no tag run. Nothing was changed.\n")
    assert product.command("tag", "cli-iris").returncode == 2
    assert [row["tags"] for row in _json(product, "versions", "cli-iris")] == [{"run": "7"}, {}]


def test_a_version_that_cannot_be_served_is_listed_as_such_and_checked_again(product: Product, iris: Path, tmp_path: Path) -> None:
    import joblib

    rows = load_iris(return_X_y=True)[0]
    joblib.dump(LocalOutlierFactor(novelty=True).fit(rows), tmp_path / "outliers.joblib")
    sent = product.command("register", str(tmp_path / "outliers.joblib"), "--name", "cli-outliers")
    assert (sent.returncode, "cli-outliers version 1 cannot be served" in sent.stderr) == (3, True)
    lines = [line.split("  ") for line in product.command("versions", "cli-outliers").stdout.splitlines()]
    assert [part for part in lines[1] if part][1] == "not servable"
    (listed,) = [line for line in product.command("models").stdout.splitlines() if line.startswith("cli-outliers")]
    assert "not servable" in listed
    again = product.command("check-again", "cli-outliers", "1")
    assert (again.returncode, "✗ Converted in the sandbox" in again.stderr) == (3, True)
    assert "cli-outliers version 1 cannot be served. LocalOutlierFactor" in again.stderr
    refused = product.command("check-again", "cli-iris", "1")
    assert (refused.returncode, "cli-iris v1 is ready and frozen" in refused.stderr) == (3, True)


def test_reads_rows_as_csv_by_the_signature_and_says_what_is_no_file_of_rows(product: Product, iris: Path, tmp_path: Path) -> None:
    name, table = "cli-csv", "petal length (cm),sepal length (cm),sepal width (cm),petal width (cm)\n1.4,5.1,3.5,0.2\n1.4,4.9,3,0.2\n"
    product.command("create-endpoint", name)
    told = product.command("deploy", name, "cli-iris", "1").stderr
    assert told.startswith(f"Next:  signalbox predict {name} rows.json   or paste\ncurl {product.predict_url}/v2/models/{name}/predict")
    assert product.admin_key not in told
    (tmp_path / "two.csv").write_text(table)
    named = _json(product, "predict", name, str(iris / "two.json"))["predictions"]
    pasted = subprocess.run(["bash", "-c", told.partition("paste")[2]], capture_output=True, timeout=30, check=True)
    assert json.loads(pasted.stdout)["predictions"] == named[:1]
    assert _json(product, "predict", name, str(tmp_path / "two.csv"))["predictions"] == named
    heading, *lines = _in_process(product, "predict", name, str(iris / "two.json")).stdout.splitlines()
    assert heading.split() == ["ROW", "LABEL", "P(0)", "P(1)", "P(2)"]
    assert [line.split()[:2] for line in lines] == [["0", "0"], ["1", "0"]]
    assert all(len(share) <= len("0.123456") for line in lines for share in line.split()[2:])
    wrong = product.command("predict", name, str(iris / "1.joblib"))
    assert (wrong.returncode, wrong.stderr.startswith("Error: The body is not CSV in UTF-8")) == (1, True)
    (tmp_path / "half.json").write_text('{"rows": [')
    half = product.command("predict", name, str(tmp_path / "half.json"))
    assert (half.returncode, "Error: FILE is not JSON" in half.stderr) == (2, True)


def test_says_where_the_missing_thing_is_listed(product: Product, iris: Path) -> None:
    _in_process(product, "create-endpoint", "cli-lists")
    wanted = {
        ("ledger", "cli-nothing"): "signalbox endpoints   or   signalbox create-endpoint NAME",
        ("versions", "cli-nothing"): "signalbox models",
        ("deploy", "cli-lists", "cli-iris", "9"): "signalbox models   or   signalbox versions MODEL",
        ("predict", "cli-nothing", "--row", "{}"): "signalbox endpoints   or   signalbox create-endpoint NAME",
    }
    for command, following in wanted.items():
        failed = _in_process(product, *command)
        assert (failed.exit_code, failed.stderr.splitlines()[1]) == (1, f"Next:  {following}")
    assert _in_process(product, "models", "--limit", "0").exit_code == 2


def test_tells_whether_the_demo_can_start_and_stops_it(product: Product, tmp_path: Path) -> None:
    assert _json(product, "demo", "stop") == {"demo": "stops"}
    failed = product.command("demo", "start", SIGNALBOX_DEMO="1")
    assert (failed.returncode, failed.stderr.splitlines()[1]) == (1, "Next:  SIGNALBOX_DEMO=1 signalbox up")
    waits = run_command(tmp_path / "var", "demo", "start", "--json")
    assert (waits.returncode, json.loads(waits.stdout)) == (0, {"demo": "waits", "next": "SIGNALBOX_DEMO=1 signalbox up"})


def test_a_refused_file_ends_with_code_3_and_says_why(product: Product, tmp_path: Path) -> None:
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    done = product.command("register", str(tmp_path / "evil.pkl"), "--name", "cli-evil")
    assert done.returncode == 3
    assert "cli-evil version 1 cannot be served" in done.stderr
    assert done.stdout == ""


def test_issues_and_revokes_a_key(product: Product) -> None:
    made = product.command("keys", "create", "cli test", "--scope", "read")
    text = made.stdout.strip()
    assert text.startswith("sbx_")
    assert f"Its id is {text.split('_')[1]}." in made.stderr
    assert "Next:  signalbox keys list" in product.command("keys", "usage", "nobody").stderr
    assert product.command("models", SIGNALBOX_KEY=text).returncode == 0
    forbidden = product.command("create-endpoint", "cli-forbidden", SIGNALBOX_KEY=text)
    assert forbidden.returncode == 1
    assert "endpoint.create" in forbidden.stderr
    assert product.command("keys", "revoke", text).stdout == f"{text.split('_')[1]} is revoked.\n"
    assert product.command("models", SIGNALBOX_KEY=text).returncode == 1


def test_limits_a_key_and_shows_what_it_has_used(product: Product) -> None:
    made = _json(product, "keys", "create", "cli limited", "--scope", "predict", "--rate", "10", "--burst", "20", "--rows-per-day", "50000")
    assert made["limits"] == {"requests_per_s": 10.0, "burst": 20, "rows_per_day": 50000}
    limited = product.command("keys", "limit", made["id"], "--rows-per-day", "0", "--rows-in-all", "9000", "--reason", "a trial")
    assert limited.stdout == f"{made['id']}: --rate 10  --burst 20  --rows-in-all 9000\n"
    assert _json(product, "keys", "list")[0]["limits"] == {"requests_per_s": 10.0, "burst": 20, "rows_in_all": 9000}
    used = _json(product, "keys", "usage", made["id"])
    assert (used["today"], used["in_all"]) == ({"requests": 0, "rows": 0, "budget_rows": None}, {"requests": 0, "rows": 0, "budget_rows": 9000})
    lines = [line.split() for line in product.command("keys", "usage", made["id"]).stdout.splitlines()]
    assert lines == [["WHEN", "REQUESTS", "ROWS", "BUDGET"], ["today", "0", "0", "-"], ["in", "all", "0", "0", "9000"]]
    assert product.command("keys", "limit", made["id"]).returncode == 2
    assert product.command("keys", "limit", made["id"], "--rate", "0").returncode == 1
    sized = product.command("keys", "limit", made["id"], "--bytes-per-request", "65536", "--timeout-ms", "500")
    assert sized.stdout == f"{made['id']}: --rate 10  --burst 20  --bytes-per-request 65536  --timeout-ms 500  --rows-in-all 9000\n"
    product.command("keys", "revoke", made["id"])
    assert product.command("keys", "limit", made["id"], "--rate", "5").returncode == 3


def test_a_limited_key_is_refused_beyond_its_budget_and_its_use_is_seen(product: Product, iris: Path) -> None:
    name, two = "cli-budget", str(iris / "two.json")
    product.command("create-endpoint", name)
    product.command("deploy", name, "cli-iris", "1")
    made = _json(product, "keys", "create", "cli budget", "--scope", "predict", "--rows-per-day", "3")
    assert product.command("predict", name, two, SIGNALBOX_KEY=made["key"]).returncode == 0
    _until_all_processes_know(product, made["id"], 2)
    refused = product.command("predict", name, two, SIGNALBOX_KEY=made["key"])
    assert (refused.returncode, "3 rows of today" in refused.stderr) == (1, True)
    used = _eventually(lambda: _json(product, "keys", "usage", made["id"]), lambda found: bool(found["days"]))
    assert used["today"] == {"requests": 1, "rows": 2, "budget_rows": 3}
    product.command("keys", "limit", made["id"], "--rows-per-day", "4")
    _eventually(lambda: product.command("predict", name, two, SIGNALBOX_KEY=made["key"]).returncode, lambda code: code == 0)
    _until_all_processes_know(product, made["id"], 4)
    assert product.command("predict", name, two, SIGNALBOX_KEY=made["key"]).returncode == 1


def test_doctor_finds_nothing_wrong_whatever_a_shell_says_of_telemetry(product: Product) -> None:
    done = product.command("doctor", "--json", ORT_DISABLE_TELEMETRY="0")
    findings = {finding["name"]: finding["state"] for finding in json.loads(done.stdout)}
    assert {name: state for name, state in findings.items() if state == "bad"} == {}
    assert {"python", "disk", "telemetry", "sandbox", "database", "redis", "monitoring", "leftovers", "console", "predictions"} == set(findings)


def test_a_backup_comes_back_in_another_folder_and_overwrites_nothing(product: Product, iris: Path, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "all.tar", tmp_path / "var"
    assert product.command("backup", str(file)).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert product.command("backup", str(file)).returncode == 3
    assert product.command("restore", str(file)).returncode == 3

    restored = run_command(elsewhere, "restore", str(file))
    assert restored.returncode == 0, restored.stderr
    kept = {path.relative_to(product.var_dir) for path in (product.var_dir / "artifacts").rglob("*") if path.is_file()}
    assert kept == {path.relative_to(elsewhere) for path in (elsewhere / "artifacts").rglob("*") if path.is_file()}
    assert kept
    assert run_command(elsewhere, "restore", str(file)).returncode == 3


def test_a_backup_to_nowhere_and_a_restore_of_something_else_say_so_and_make_nothing(product: Product, iris: Path, tmp_path: Path) -> None:
    nowhere = product.command("backup", str(tmp_path / "missing" / "all.tar"))
    assert (nowhere.returncode, nowhere.stderr) == (
        1,
        f"Error: {tmp_path}/missing/all.tar cannot be written: No such file or directory. Nothing was backed up.\n",
    )
    elsewhere, cut = tmp_path / "var", tmp_path / "cut.tar"
    assert product.command("backup", str(tmp_path / "all.tar")).returncode == 0
    cut.write_bytes((tmp_path / "all.tar").read_bytes()[:20_000])
    for other in (iris / "rows.csv", cut):
        refused = run_command(elsewhere, "restore", str(other))
        assert (refused.returncode, refused.stderr) == (3, f"Error: {other} is not a whole backup that `signalbox backup` wrote. Nothing was restored.\n")
    assert not elsewhere.exists()


def test_a_mistyped_setting_is_named(tmp_path: Path) -> None:
    refused = run_command(tmp_path / "var", "up", SIGNALBOX_CONSOLE_PORT="abc")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: The setting SIGNALBOX_CONSOLE_PORT is 'abc': input should be a valid integer")
    assert refused.stderr.count("\n") == 1


def test_an_empty_name_and_a_wrong_moment_are_refused_before_anything_is_asked(tmp_path: Path, iris: Path) -> None:
    empty = run_command(tmp_path / "var", "register", str(iris / "1.joblib"), "--name", "")
    assert (empty.returncode, "A name is empty." in empty.stderr) == (2, True)
    wrong = run_command(tmp_path / "var", "export-predictions", "x", "-o", str(tmp_path / "x.csv"), "--from", "yesterday")
    assert (wrong.returncode, "'--from': 'yesterday' is no time: write it as 2026-11-22T14:05Z." in wrong.stderr) == (2, True)


def test_says_what_to_do_when_nothing_runs(tmp_path: Path) -> None:
    failed = run_command(tmp_path / "var", "models", SIGNALBOX_CONSOLE_PORT="1")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.splitlines() == [
        "Error: Signalbox at 127.0.0.1:1 does not answer (ConnectError). It is not running, or runs elsewhere.",
        "Next:  signalbox up   (or set SIGNALBOX_URL)",
    ]
    assert "no address: write http:// or https:// before it" in run_command(tmp_path / "var", "models", "--url", "models.example.org").stderr
    assert run_command(tmp_path / "var", "split", "x", "blue").returncode == 2
    assert run_command(tmp_path / "var", "sign-in").returncode == 1
