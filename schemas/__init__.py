"""Names, shapes and rules that users rely on: records, topics, manifests, receipts. No I/O here."""
