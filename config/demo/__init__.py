"""The demo: two models of real data that ships with scikit-learn, live traffic, a shift, and outcomes that come late."""
