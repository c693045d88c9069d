from equivox.definitions import DEFAULT_FAMILIES, METRICS, families, metric_keys


def test_every_family_has_a_metric_and_the_endpoint_is_in_the_default() -> None:
    assert all(metric_keys([family]) for family in families())
    assert "dice" in metric_keys(DEFAULT_FAMILIES)
    assert metric_keys(families()) == tuple(METRICS)


def test_titles_formulas_and_details_can_be_printed() -> None:
    for definition in METRICS.values():
        assert definition.label
        assert definition.title
        assert definition.formula
        assert definition.details == "" or definition.details.endswith(".")
        assert not definition.reference.endswith(".")
        assert "\\" not in definition.formula + definition.details


def test_a_metric_that_needs_one_mask_is_never_a_plain_overlap_of_both() -> None:
    needing = {key for key, definition in METRICS.items() if definition.needs != "either"}
    assert needing == {
        *("sensitivity", "precision", "relative_volume_error"),
        *("topology_sensitivity", "topology_precision"),
    }
