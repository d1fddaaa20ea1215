"""Results as pages of a repository: tables of an experiment that are committed, and the page that is generated from them."""
