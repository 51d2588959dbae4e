"""Alerts: what somebody is to hear of, once per rule, scope and day, and how it reaches them."""
