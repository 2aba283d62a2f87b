"""Set-up and teardown of tenants on clusters."""
