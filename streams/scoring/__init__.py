"""From raw event values to scored records: decode, check, infer, judge, encode. No Kafka, no waiting."""
