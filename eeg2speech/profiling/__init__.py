"""How long systems take and what they need: latency, throughput, memory, streaming, stages, growth."""
