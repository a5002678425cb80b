"""Print or write all tables. Run: python -m experiments.tables [FILE...]."""

from experiments.tables.markers import main

if __name__ == "__main__":
    main()
