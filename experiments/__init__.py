"""Our lab notebook: records of results, the tables made of them, benchmarks. No part of the package."""
