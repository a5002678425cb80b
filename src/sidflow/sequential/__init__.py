"""Sequential recommenders: SASRec, eSASRec, GRU4Rec, BERT4Rec."""
