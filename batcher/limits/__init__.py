"""Rate limits: who may call which model when, at exactly the rate that the account allows."""
