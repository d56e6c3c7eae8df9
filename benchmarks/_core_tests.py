"""The tests of the core: addresses, features, capture, edits, the table and the engine; the quick ones first."""

CORE = """
tests/address tests/test_features.py tests/test_capturing.py tests/test_editing.py tests/test_edit_values.py
tests/test_patterns.py tests/test_reduce.py tests/test_wrapper.py tests/test_table.py tests/test_pytree.py tests/engine
""".split()  # noqa: SIM905
# the same tests on more networks, and slow: `-k` leaves them out
SLOW = "not vit_b_16 and not convnext_tiny and not mobilenet_v2"
