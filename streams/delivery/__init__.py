"""How anomalies leave the site: what may leave, the circuit breaker, waits. Decisions only, no sockets."""
