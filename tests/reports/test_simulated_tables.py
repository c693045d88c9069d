from equivox.reports.simulated_tables import simulated_tables

ROWS = {
    "about": "Simulated once.",
    "coverage": [{"patients": 1000, "scores": "no misses", "wanted": 0.95, "bootstrap-t": 0.9532}],
    "answers": [{"scores": "3 % misses", "groups": "20 + 60", "true_gap": 0.05, "margin": 0.05, "ruled_out": 0.0225}],
    "tests": [],
}


def test_shares_are_in_percent_and_counts_are_counts() -> None:
    about, (coverage, answers) = simulated_tables({"simulated_table": ROWS})
    assert about == "Simulated once."
    assert coverage.heads == ["Patients", "Scores", "Wanted", "Bootstrap-t"]
    assert coverage.rows == [["1,000", "no misses", "95.0 %", "95.3 %"]]
    assert answers.rows == [["3 % misses", "20 + 60", "0.05", "0.05", "2.2 %"]]


def test_a_summary_without_simulations_has_no_tables() -> None:
    assert simulated_tables({}) == ("", [])
