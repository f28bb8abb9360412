"""The report: one HTML file with plots as inline SVG, made from the results of bench/run."""
