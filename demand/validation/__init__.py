"""Great Expectations: which rows are ads, and which tables may be trained on."""
