"""The synthetic shop: products from a grammar, drawn pictures, users with tastes, and the truth about them."""
