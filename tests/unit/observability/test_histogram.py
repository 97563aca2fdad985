from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from distributor.observability.histogram import MAX_LABEL_SETS, OTHER, Histogram


def test_a_value_on_a_bound_falls_below_it() -> None:
    registry = CollectorRegistry()
    buckets = Histogram(registry, "h", "A histogram.", (1.0, 2.0)).child()
    for value in (0.5, 1.0, 1.5, 2.5):
        buckets.observe(value)
    assert registry.get_sample_value("h_bucket", {"le": "1.0"}) == 2
    assert registry.get_sample_value("h_bucket", {"le": "2.0"}) == 3
    assert registry.get_sample_value("h_bucket", {"le": "+Inf"}) == 4
    assert registry.get_sample_value("h_count") == 4
    assert registry.get_sample_value("h_sum") == 5.5


def test_it_is_valid_exposition_text() -> None:
    registry = CollectorRegistry()
    Histogram(registry, "h", "A histogram.", (0.0005, 1.0), ["a"]).child("x").observe(0.1)
    (family,) = text_string_to_metric_families(generate_latest(registry).decode())
    assert (family.name, family.type, family.documentation) == ("h", "histogram", "A histogram.")
    assert [sample.labels.get("le") for sample in family.samples] == ["0.0005", "1.0", "+Inf", None, None]


def test_label_sets_are_bounded() -> None:
    registry = CollectorRegistry()
    histogram = Histogram(registry, "h", "A histogram.", (1.0,), ["a", "b"])
    for number in range(MAX_LABEL_SETS + 50):
        histogram.child(str(number), "x").observe(0.1)
    assert registry.get_sample_value("h_count", {"a": OTHER, "b": OTHER}) == 50
    assert registry.get_sample_value("h_count", {"a": "7", "b": "x"}) == 1
    assert histogram.child("7", "x") is histogram.child("7", "x")
