"""A score prior of co-occurrence and content, with learned weights, beside any base recommender."""
