"""Sequential recommenders that learn by gradient: SASRec, GRU4Rec, BERT4Rec, and DMESR's item embeddings for them."""
