"""The page of a version that another scikit-learn saved says what that means."""

from __future__ import annotations

from tests.conftest import ClientOf
from tests.serving.conftest import make_version


def test_the_version_s_page_warns_of_another_scikit_learn(client_of: ClientOf) -> None:
    version, client = make_version(12), client_of("viewer")
    assert "Saved by scikit-learn" not in client.get("/models/churn/12/").content.decode()
    version.conversion = {"saved_with": "1.2.2"}
    version.save()
    page = client.get("/models/churn/12/").content.decode()
    assert "Saved by scikit-learn 1.2.2" in page
    assert "It may answer otherwise than where it was trained" in page
    version.conversion = {"saved_with": "1.2.2", "expected_rows": 300}
    version.save()
    page = client.get("/models/churn/12/").content.decode()
    assert "All is well on the 300 rows" in page
    assert "It may answer otherwise" not in page
