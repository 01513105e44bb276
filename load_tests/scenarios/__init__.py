"""The scenario files; ``load_tests.plan`` reads them."""
