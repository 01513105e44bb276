"""Its place makes the ``tests`` package importable, so that suites can share their builders and port adapters."""
