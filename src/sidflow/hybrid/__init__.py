"""A score prior of co-occurrence and content beside any base recommender."""
