"""The parts of bench/run: servers, measuring, sets, tables."""
